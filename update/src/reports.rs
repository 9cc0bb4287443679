//! Tells the host what became of releases.

use exchange::release::{HealthReport, Version, health_place};
use exchange::{DeviceName, Digest, SecretKey, signed};
use objects::Remote;

use crate::slots::{UpdateError, Updates};

impl Updates {
    /// Puts what the host has yet to hear where it looks, signed by the board; how many reports that were.
    ///
    /// # Errors
    /// A place that is away: they wait.
    pub fn send_reports(
        &self,
        remote: &mut dyn Remote,
        device: &DeviceName,
        key: &SecretKey,
        version: Version,
        now_s: i64,
    ) -> Result<usize, UpdateError> {
        let waiting = self.state().reports;
        for reported in &waiting {
            let report = HealthReport {
                device: device.clone(),
                sequence: reported.sequence,
                release: reported.release,
                outcome: reported.outcome.clone(),
                version,
                at_s: now_s,
            };
            let bytes = signed::sign(&report, &[key]);
            remote.put(&health_place(device, Digest::of(&bytes)), &bytes)?;
            self.change(|state| state.reports.retain(|waiting| waiting != reported))?;
        }
        Ok(waiting.len())
    }
}
