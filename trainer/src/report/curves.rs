//! Curves from a run's journal, with as many points as an eye can tell apart.

use std::collections::BTreeMap;

use crate::journal::StepRecord;

use super::plot::{Plot, Series};

/// Most points of a curve on the page.
pub const MOST_POINTS: usize = 1000;

/// At most `most` points of a curve (but never fewer than two): of each stretch the lowest and the highest, in order.
///
/// Points that are not finite are gaps; the first of each gap stays.
pub fn thinned(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    if points.len() <= most.max(2) {
        return points.to_vec();
    }
    let stretches = (most / 2).max(1);
    let mut kept = Vec::with_capacity(2 * stretches);
    for stretch in 0..stretches {
        let from = stretch * points.len() / stretches;
        let to = (stretch + 1) * points.len() / stretches;
        let finite = || (from..to).filter(|place| points[*place].1.is_finite());
        let lowest = finite().min_by(|a, b| points[*a].1.total_cmp(&points[*b].1));
        let highest = finite().max_by(|a, b| points[*a].1.total_cmp(&points[*b].1));
        match (lowest, highest) {
            (Some(lowest), Some(highest)) if lowest != highest => {
                kept.extend([points[lowest.min(highest)], points[lowest.max(highest)]]);
            }
            (Some(only), _) => kept.push(points[only]),
            _ => kept.extend(points.get(from).copied()),
        }
    }
    kept
}

/// The plots of a run: its losses together, and each other number alone, over the steps.
pub fn loss_plots(records: &[StepRecord]) -> Vec<Plot> {
    let mut curves: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for record in records {
        for (name, value) in record.curves() {
            curves.entry(name).or_default().push((record.step as f64, value));
        }
    }
    let plot = |title: &str, series: Vec<Series>| Plot {
        title: title.to_owned(),
        x_label: "step".to_owned(),
        y_label: title.to_owned(),
        series,
    };
    let mut losses = Vec::new();
    let mut others = Vec::new();
    for (name, points) in curves {
        let points = thinned(&points, MOST_POINTS);
        match name.strip_prefix("loss/") {
            Some(loss) => losses.push(Series { name: loss.to_owned(), points }),
            None => others.push(plot(&name.clone(), vec![Series { name, points }])),
        }
    }
    if losses.is_empty() { others } else { std::iter::once(plot("loss", losses)).chain(others).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_survives_thinning() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), f64::from(x % 7))).collect();
        points[54_321].1 = 99.0;
        points[77_777].1 = -3.0;
        let thin = thinned(&points, MOST_POINTS);
        assert!(thin.len() <= MOST_POINTS && thin.is_sorted_by(|a, b| a.0 < b.0));
        assert!(thin.contains(&(54_321.0, 99.0)) && thin.contains(&(77_777.0, -3.0)));
        assert_eq!(thinned(&points[..10], MOST_POINTS), points[..10]);
    }

    #[test]
    fn a_stretch_without_a_number_is_a_gap() {
        let points: Vec<(f64, f64)> =
            (0..4000).map(|x| (f64::from(x), if x < 2000 { f64::NAN } else { 1.0 })).collect();
        let thin = thinned(&points, 10);
        assert!(thin.len() <= 10 && thin[0].1.is_nan() && thin[thin.len() - 1].1 == 1.0);
    }

    #[test]
    fn losses_share_a_plot_and_other_numbers_have_their_own() {
        let record = |step| StepRecord {
            step,
            losses: [("lm".to_owned(), 1.0), ("itc".to_owned(), 2.0)].into(),
            ..StepRecord::default()
        };
        let plots = loss_plots(&[record(1), record(2)]);
        let titles: Vec<&str> = plots.iter().map(|plot| plot.title.as_str()).collect();
        assert_eq!(titles, ["loss", "gradient-norm", "learning-rate", "pairs-per-second"]);
        assert_eq!(plots[0].series[0], Series { name: "itc".to_owned(), points: vec![(1.0, 2.0), (2.0, 2.0)] });
        assert!(loss_plots(&[]).is_empty());
    }
}
