//! Which process this is, as the launcher says.

use super::RanksError;

/// Most ranks of a run.
pub const MAX_WORLD: usize = 4096;

/// This process among all of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from zero.
    pub rank: usize,
    /// Number of processes.
    pub world: usize,
    /// Its number on its machine: which of the machine's devices is its.
    pub local_rank: usize,
    /// Host at which rank 0 is found.
    pub address: String,
    /// Port at which rank 0 listens.
    pub port: u16,
}

impl Place {
    /// What the environment says; nothing where no launcher has set it, or where a Slurm job has one task.
    ///
    /// `RANK`, `WORLD_SIZE`, `LOCAL_RANK` (0 where it is not set, as under Kubernetes with one process a pod),
    /// `MASTER_ADDR` and `MASTER_PORT`; where there is no `RANK`, Slurm's `SLURM_PROCID`, `SLURM_NTASKS` and
    /// `SLURM_LOCALID`. Under torchrun the launcher itself listens at `MASTER_PORT`, and rank 0 takes the port after it.
    ///
    /// Source: PyTorch `torch/distributed/run.py`, "Environment Variables", and `rendezvous.py`,
    /// `_torchelastic_use_agent_store`; Slurm `srun(1)`, "output environment variables".
    ///
    /// # Errors
    /// A variable that is missing, or whose value cannot be.
    pub fn from_environment() -> Result<Option<Place>, RanksError> {
        Place::from_variables(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// As [`Place::from_environment`], from any source of variables.
    ///
    /// # Errors
    /// A variable that is missing, or whose value cannot be.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Place>, RanksError> {
        let variables = Variables(variable);
        let names = match () {
            () if variables.is_set("RANK") => ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
            () if variables.is_set("SLURM_PROCID") => {
                if variables.number("SLURM_NTASKS", "SLURM_PROCID")? == 1 {
                    return Ok(None);
                }
                ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"]
            }
            () => return Ok(None),
        };
        variables.place(names).map(Some)
    }
}

struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn is_set(&self, name: &str) -> bool {
        (self.0)(name).is_some()
    }

    fn text(&self, name: &'static str, because: &str) -> Result<String, RanksError> {
        let set = (self.0)(name).filter(|value| !value.is_empty());
        set.ok_or_else(|| RanksError::Unset { name, because: format!("{because} is") })
    }

    fn number(&self, name: &'static str, because: &str) -> Result<usize, RanksError> {
        let value = self.text(name, because)?;
        let rule = || "it must be a whole number".to_owned();
        value.trim().parse().map_err(|_| RanksError::Variable { name, value, rule: rule() })
    }

    fn place(&self, [rank, world, local]: [&'static str; 3]) -> Result<Place, RanksError> {
        let refused = |name, value: usize, rule: String| RanksError::Variable { name, value: value.to_string(), rule };
        let (number, count) = (self.number(rank, world)?, self.number(world, rank)?);
        if !(1..=MAX_WORLD).contains(&count) {
            return Err(refused(world, count, format!("it must lie between 1 and {MAX_WORLD}")));
        }
        if number >= count {
            return Err(refused(rank, number, format!("it must be below {world}, which is {count}")));
        }
        let local_rank = if self.is_set(local) { self.number(local, rank)? } else { 0 };
        if local_rank >= count {
            return Err(refused(local, local_rank, format!("it must be below {world}, which is {count}")));
        }
        let address = self.text("MASTER_ADDR", rank)?;
        let port = self.number("MASTER_PORT", rank)?;
        let taken = (self.0)("TORCHELASTIC_USE_AGENT_STORE").is_some_and(|value| value == "True");
        let last = usize::from(u16::MAX) - usize::from(taken);
        if !(1..=last).contains(&port) {
            return Err(refused("MASTER_PORT", port, format!("it must lie between 1 and {last}")));
        }
        let port = u16::try_from(port + usize::from(taken)).expect("a port of at most 65535");
        Ok(Place { rank: number, world: count, local_rank, address, port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAUNCHED: &[(&str, &str)] =
        &[("RANK", "3"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1"), ("MASTER_ADDR", "node-1"), ("MASTER_PORT", "29500")];

    fn place(changes: &[(&str, &str)], base: &[(&str, &str)]) -> Result<Option<Place>, String> {
        let value = |name: &str| {
            let found = changes.iter().chain(base).find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned()).filter(|value| value != "unset")
        };
        Place::from_variables(value).map_err(|error| error.to_string())
    }

    #[test]
    fn a_launchers_variables_say_which_process_this_is() {
        let expected = Place { rank: 3, world: 8, local_rank: 1, address: "node-1".to_owned(), port: 29500 };
        assert_eq!(place(&[], LAUNCHED), Ok(Some(expected.clone())));
        let slurm = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "1"), ("RANK", "unset")];
        assert_eq!(place(&slurm, LAUNCHED), Ok(Some(expected.clone())));
        let one_a_pod = place(&[("LOCAL_RANK", "unset")], LAUNCHED);
        assert_eq!(one_a_pod, Ok(Some(Place { local_rank: 0, ..expected.clone() })));
        let torchrun = place(&[("TORCHELASTIC_USE_AGENT_STORE", "True")], LAUNCHED);
        assert_eq!(torchrun, Ok(Some(Place { port: 29501, ..expected })));
    }

    #[test]
    fn without_a_launcher_there_is_no_place() {
        assert_eq!(place(&[], &[]), Ok(None));
        assert_eq!(place(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1")], &[]), Ok(None));
    }

    #[test]
    fn what_cannot_be_is_named_with_its_value() {
        for (name, value, words) in [
            ("RANK", "8", "RANK is \"8\": it must be below WORLD_SIZE, which is 8"),
            ("RANK", "-1", "RANK is \"-1\": it must be a whole number"),
            ("WORLD_SIZE", "0", "WORLD_SIZE is \"0\": it must lie between 1 and 4096"),
            ("WORLD_SIZE", "unset", "WORLD_SIZE is not set, but RANK is"),
            ("LOCAL_RANK", "x", "LOCAL_RANK is \"x\": it must be a whole number"),
            ("MASTER_ADDR", "", "MASTER_ADDR is not set, but RANK is"),
            ("MASTER_PORT", "65536", "MASTER_PORT is \"65536\": it must lie between 1 and 65535"),
        ] {
            let message = place(&[(name, value)], LAUNCHED).unwrap_err();
            assert!(message.contains(words), "{message}");
        }
    }
}
