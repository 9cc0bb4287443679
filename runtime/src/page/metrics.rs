//! Counters and gauges in Prometheus' text format.
//!
//! Source: prometheus.io, "Exposition formats", text format 0.0.4.

use std::fmt::Write;

use store::Counts;

use crate::face::Health;

/// What the format is called.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is counted.
pub(super) fn metrics(health: Option<&Health>, counts: Option<&Counts>) -> String {
    let mut page = Exposition::default();
    page.family("edgeblip_up", "gauge", "Whether the model is loaded.");
    page.sample("", f64::from(u8::from(health.is_some_and(|health| health.bundle.is_some()))));
    if let Some(health) = health {
        page.family("edgeblip_frames_total", "counter", "Frames by what became of them since the start.");
        page.sample(&label("fate", "kept"), health.kept as f64);
        page.sample(&label("fate", "rejected"), health.rejected as f64);
        for (reason, count) in &health.dropped {
            page.sample(&label("fate", reason), *count as f64);
        }
        page.family("edgeblip_trouble", "gauge", "Whether the store takes no pairs.");
        page.sample("", f64::from(u8::from(health.trouble.is_some())));
        page.family("edgeblip_stretch", "gauge", "How many times as long intervals are, for heat or supply.");
        page.sample("", health.pace.stretch);
        page.family("edgeblip_uptime_seconds", "gauge", "Time since the board started.");
        page.sample("", health.now.since_boot.as_secs_f64());
        if let Some(rejects) = health.rejects {
            page.family("edgeblip_filter_rejected_ratio", "gauge", "Share of texts that the filter rejects of late.");
            page.sample("", rejects);
        }
        if let Some(celsius) = health.reading.celsius {
            page.family("edgeblip_temperature_celsius", "gauge", "The processor's temperature.");
            page.sample("", celsius);
        }
        if let Some(throttled) = health.reading.throttled {
            page.family("edgeblip_throttled", "gauge", "The firmware's throttling flags.");
            page.sample("", f64::from(throttled.0));
        }
        page.family("edgeblip_info", "gauge", "The bundle and the camera.");
        let bundle = label("bundle", health.bundle.as_deref().unwrap_or_default());
        page.sample(&format!("{bundle},{}", label("camera", &health.camera)), 1.0);
    }
    if let Some(counts) = counts {
        page.family("edgeblip_pairs", "gauge", "Pairs in the store by state.");
        page.sample(&label("state", "kept"), counts.kept as f64);
        page.sample(&label("state", "rejected"), counts.rejected as f64);
        page.family("edgeblip_pairs_labelled", "gauge", "Pairs in the store that people wrote about.");
        page.sample("", counts.human as f64);
        page.family("edgeblip_pairs_unsynced", "gauge", "Pairs in the store whose copy is not at home.");
        page.sample("", counts.unsynced as f64);
        page.family("edgeblip_pairs_bytes", "gauge", "Bytes of pictures and facts in the store.");
        page.sample("", counts.bytes as f64);
    }
    page.text
}

#[derive(Default)]
struct Exposition {
    text: String,
    name: &'static str,
}

impl Exposition {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.name = name;
        // Writing to a string cannot fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn sample(&mut self, labels: &str, value: f64) {
        let labels = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_board_that_starts_says_so_and_labels_are_escaped() {
        let counts = Counts { kept: 3, ..Counts::default() };
        let text = metrics(None, Some(&counts));
        assert!(text.contains("\nedgeblip_up 0\n") && text.contains("\nedgeblip_pairs{state=\"kept\"} 3\n"), "{text}");
        assert_eq!(label("camera", "a\"b\\c\nd"), r#"camera="a\"b\\c\nd""#);
    }
}
