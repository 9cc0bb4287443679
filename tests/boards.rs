//! Boards and hosts as their operators run them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use blip::caption::{Caption, Origin};
use blip::pixels::Rgb8;
use exchange::Digest;
use picture::{JpegQuality, encode_jpeg};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use store::{Decision, Filter, Limits, Pair, PairId, Sensor, Stamp, Store, Text};

use crate::command_line::{Ran, run};

/// A board's folder, and how its operator calls it.
pub struct Board {
    /// Where everything of it lies.
    pub folder: PathBuf,
}

/// The host's folder.
pub struct Host {
    /// Where everything of it lies.
    pub folder: PathBuf,
}

pub fn caption(text: &str) -> Result<Caption> {
    Ok(Caption::new(text)?)
}

pub fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A small picture that no other number has.
pub fn jpeg(number: u64) -> Result<Vec<u8>> {
    let side = 24;
    let value = |place: usize| (place as u64 * (number + 3) % 251) as u8;
    let picture = Rgb8::new(side, side, (0..side * side * 3).map(value).collect())?;
    Ok(encode_jpeg(&picture, JpegQuality::new(80)?)?)
}

pub fn pair(jpeg: Vec<u8>, words: &str) -> Result<Pair> {
    let text = Text {
        words: caption(words)?,
        origin: Origin::Caption,
        itm: Some(0.9),
        itc: Some(0.3),
        log_prob: None,
        decision: Decision::Kept,
        model: None,
    };
    let sensor = Sensor {
        camera: caption("test")?,
        trigger: caption("interval")?,
        exposure_us: None,
        temperature_c: Some(40.0),
        throttled: None,
    };
    let taken = Stamp::default();
    Ok(Pair { jpeg: Some(jpeg), texts: vec![text], sensor, place: None, taken, bundle: None, vector: None })
}

impl Board {
    pub fn at(folder: &Path) -> Board {
        Board { folder: folder.to_owned() }
    }

    pub fn store(&self, boot: &str) -> Result<Store> {
        Ok(Store::open(&self.folder.join("pairs"), caption(boot)?, Limits::default())?.0)
    }

    pub fn keep(&self, numbers: std::ops::Range<u64>, words: &str) -> Result<Vec<PairId>> {
        let mut store = self.store("boot a")?;
        let mut kept = Vec::new();
        for number in numbers {
            store.put(pair(jpeg(number)?, &format!("{words} {number}"))?, Duration::ZERO)?;
            kept.extend(store.flush()?);
        }
        Ok(kept)
    }

    pub fn run(&self, arguments: &[&str]) -> Result<Ran> {
        let store = text(&self.folder.join("pairs"));
        let mut all = arguments.to_vec();
        all.extend(["--store", &store, "--json"]);
        run("edgeblip", &all)
    }

    pub fn say(&self, arguments: &[&str]) -> Result<Value> {
        Ok(self.run(arguments)?.json()?.remove(0))
    }

    pub fn sync(&self) -> Result<Value> {
        self.say(&["sync", "--now"])
    }

    /// Asks the host to let it in, and takes the grant.
    pub fn enrol(&self, host: &Host, name: &str) -> Result<()> {
        self.enrol_at(host, name, &format!("file://{}", text(&host.folder.join("objects"))), None)
    }

    pub fn enrol_at(&self, host: &Host, name: &str, url: &str, user: Option<&str>) -> Result<()> {
        let (request, grant) = (text(&self.folder.join("request")), text(&self.folder.join("grant")));
        let asked = self.say(&["enrol", "--out", &request, "--name", name])?;
        let mut more = vec![request.as_str(), "--out", &grant, "--url", url];
        more.extend(user.into_iter().flat_map(|user| ["--user", user]));
        let granted = host.say(&["devices", "approve"], &more)?;
        ensure!(asked["board"] == granted["board"], "{asked} {granted}");
        let taken = self.say(&["enrol", "--grant", &grant])?;
        ensure!(taken["host"] == granted["host"] && taken["device"] == name, "{taken} {granted}");
        Ok(())
    }

    /// Pairs by name, and whether their copy is at home.
    pub fn listed(&self) -> Result<BTreeMap<PairId, bool>> {
        let reader = self.store("boot z")?.reader();
        let all = reader.list(Filter { limit: 1_000_000, ..Filter::default() })?;
        Ok(all.into_iter().map(|entry| (entry.id, entry.is_synced)).collect())
    }

    pub fn hashes(&self) -> Result<BTreeMap<PairId, Digest>> {
        let reader = self.store("boot z")?.reader();
        let ids: Vec<PairId> =
            reader.list(Filter { limit: 1_000_000, ..Filter::default() })?.iter().map(|entry| entry.id).collect();
        Ok(reader.originals(&ids)?.into_iter().map(|original| (original.id, original.sha256.into())).collect())
    }
}

impl Host {
    pub fn at(folder: &Path) -> Result<Host> {
        std::fs::create_dir_all(folder.join("objects"))?;
        Ok(Host { folder: folder.canonicalize()? })
    }

    pub fn say(&self, command: &[&str], more: &[&str]) -> Result<Value> {
        let folder = text(&self.folder);
        let mut all = command.to_vec();
        all.extend(["--host", &folder, "--json"]);
        all.extend(more);
        Ok(run("edgeblip-trainer", &all)?.json()?.remove(0))
    }

    pub fn inbox(&self) -> Result<Value> {
        self.say(&["inbox"], &[])
    }

    /// Every pair that is written down: board, hash, number of labels.
    pub fn pairs(&self) -> Result<Vec<(String, Digest, usize)>> {
        let book = rusqlite::Connection::open(self.folder.join("inbox.db"))?;
        let mut statement = book.prepare("SELECT device, sha256, label_count FROM pairs ORDER BY number")?;
        let rows =
            statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, [u8; 32]>(1)?, row.get::<_, i64>(2)?)))?;
        rows.map(|row| row.map(|(device, hash, labels)| (device, hash.into(), labels as usize)))
            .map(|row| Ok(row?))
            .collect()
    }

    /// Whether all that is written down can be read from the shelf as it was stored.
    pub fn check_shelf(&self) -> Result<()> {
        let book = rusqlite::Connection::open(self.folder.join("inbox.db"))?;
        let mut statement = book.prepare("SELECT sha256, shard, picture_at, picture_bytes, facts FROM pairs")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let (hash, shard): ([u8; 32], [u8; 32]) = (row.get(0)?, row.get(1)?);
            let (at, length): (usize, usize) = (row.get::<_, i64>(2)? as usize, row.get::<_, i64>(3)? as usize);
            let name = Digest::from(shard).to_string();
            let tar = std::fs::read(self.folder.join("shards").join(&name[..2]).join(format!("{name}.tar")))?;
            let facts: Vec<u8> = row.get(4)?;
            ensure!(store::pair_hash(&facts, &tar[at..at + length]) == hash, "a pair of {name} is not what was stored");
        }
        Ok(())
    }
}

pub fn scene() -> Result<(tempfile::TempDir, Board, Host)> {
    let place = tempfile::tempdir()?;
    let board = Board::at(&place.path().join("board"));
    std::fs::create_dir(&board.folder)?;
    let host = Host::at(&place.path().join("host"))?;
    Ok((place, board, host))
}

/// Asks a program to stop, as a service manager does.
pub fn ask_to_stop(child: &Child) -> Result<()> {
    let pid = Pid::from_raw(child.id().try_into()?).context("a child has a number")?;
    Ok(kill_process(pid, Signal::TERM)?)
}
