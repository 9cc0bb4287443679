//! `pairs`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use blip::caption::Caption;
use clap::{Args, Subcommand, ValueEnum};
use exchange::DeviceName;
use host::deletion::Doomed;
use host::{HomePair, PairFilter, PairName};
use serde_json::{Value, json};
use store::{LabelAction, State};
use terminal::{printable, shown};

use super::host_folder::HostFolder;

/// Pairs that came home: look at them, and say which are good.
#[derive(Args)]
pub struct Pairs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// One line a pair, in the order in which they arrived
    List(List),
    /// Everything about a pair
    Show(Show),
    /// The pair is good, whatever the board said
    Accept(Label),
    /// The pair is not to be learned from
    Reject(Label),
    /// A text in place of those that the pair has, which stay on record
    Rewrite(Rewrite),
    /// Erase a pair, or all of a board, so that it does not come back; datasets that have it are withdrawn
    Delete(Delete),
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    place: HostFolder,
    /// Only this board's
    #[arg(long, value_name = "BOARD")]
    device: Option<DeviceName>,
    /// Only those that are so after what people said
    #[arg(long)]
    state: Option<Wanted>,
    /// Only those with a text that has this in it
    #[arg(long)]
    text: Option<String>,
    /// Only those that arrived after the pair of this number, to go on where a list ended
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: i64,
    /// Most lines
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: usize,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wanted {
    Kept,
    Rejected,
}

#[derive(Args)]
struct Show {
    #[command(flatten)]
    place: HostFolder,
    /// The pair: the first digits of its hash, or its board and name, as in garden/3-17
    pair: PairName,
    /// Write its picture into this file
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
}

#[derive(Args)]
struct Label {
    #[command(flatten)]
    place: HostFolder,
    /// Pairs: the first digits of a hash, or board and name, as in garden/3-17
    #[arg(required = true)]
    pairs: Vec<PairName>,
}

#[derive(Args)]
struct Rewrite {
    #[command(flatten)]
    place: HostFolder,
    /// The pair: the first digits of its hash, or its board and name, as in garden/3-17
    pair: PairName,
    /// The text
    text: String,
}

#[derive(Args)]
struct Delete {
    #[command(flatten)]
    place: HostFolder,
    /// The pair: the first digits of its hash, or its board and name, as in garden/3-17
    #[arg(required_unless_present = "device", conflicts_with = "device")]
    pair: Option<PairName>,
    /// All pairs of this board
    #[arg(long, value_name = "BOARD")]
    device: Option<DeviceName>,
}

impl Pairs {
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::List(list) => list.run(),
            Action::Show(show) => show.run(),
            Action::Accept(label) => label.run(&LabelAction::Accept),
            Action::Reject(label) => label.run(&LabelAction::Reject),
            Action::Rewrite(rewrite) => {
                let text = Caption::new(rewrite.text).context("the text")?;
                let label = Label { place: rewrite.place, pairs: vec![rewrite.pair] };
                label.run(&LabelAction::Rewrite(text))
            }
            Action::Delete(delete) => delete.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<()> {
        let home = self.place.open()?;
        let state = self.state.map(|wanted| match wanted {
            Wanted::Kept => State::Kept,
            Wanted::Rejected => State::Rejected,
        });
        let Self { device, text, after, limit, .. } = self;
        let page = home.pairs(&PairFilter { device, state, text, after, limit })?;
        for pair in &page.pairs {
            line(pair, self.place.json)?;
        }
        if let Some(next) = page.next.filter(|_| !self.place.json) {
            eprintln!("there may be more: --after {next}");
        }
        Ok(())
    }
}

fn line(pair: &HomePair, is_json: bool) -> Result<()> {
    if is_json {
        println!("{}", terminal::json(&described(pair))?);
        return Ok(());
    }
    let (hash, device, id) = (pair.sha256().to_string(), printable(&pair.device), pair.pair.facts.id);
    let (state, word) = (state(pair), pair.word().name());
    // Of a pair without a text that goes with it, one that the filter rejected.
    let texts = pair.texts();
    let text = texts.first().or(pair.pair.facts.texts.first());
    let text = text.map(|text| printable(text.words.as_str())).unwrap_or_default();
    println!("{}  {device}/{id}  {state} ({word})  {text}", hash.get(..12).unwrap_or_default());
    Ok(())
}

fn state(pair: &HomePair) -> &'static str {
    match pair.state() {
        State::Kept => "kept",
        State::Rejected => "rejected",
    }
}

fn described(pair: &HomePair) -> Value {
    let texts: Vec<Value> = pair.texts().iter().map(|text| json!(text.words)).collect();
    json!({
        "number": pair.number, "sha256": pair.sha256(), "device": pair.device, "pair": pair.pair.facts.id,
        "state": state(pair), "by": pair.word(), "texts": texts, "day": pair.day(), "arrived_s": pair.arrived_s,
        "picture_bytes": pair.pair.facts.jpeg_bytes,
    })
}

impl Show {
    fn run(self) -> Result<()> {
        let home = self.place.open()?;
        let pair = home.pair(&self.pair)?;
        if let Some(path) = &self.picture {
            let Some(picture) = home.picture(&pair)? else { bail!("{}: it came without a picture", self.pair) };
            let written = dataset::disk::write_whole(path, |out| out.write_all(&picture));
            written.with_context(|| shown(path))?;
        }
        let mut all = described(&pair);
        all["shard"] = json!(pair.shard);
        all["facts"] = json!(pair.pair.facts);
        let (board, host) = pair.pair.labels.split_at(pair.board_labels);
        all["labels"] = json!({"board": board, "host": host});
        if self.place.json {
            println!("{}", terminal::json(&all)?);
            return Ok(());
        }
        line(&pair, false)?;
        println!("  hash {}", pair.sha256());
        println!(
            "  taken {}, from {}",
            pair.day().as_deref().unwrap_or("on a day that is not known"),
            pair.pair.facts.sensor.camera
        );
        println!("  shard {}", pair.shard);
        for text in &pair.pair.facts.texts {
            println!("  board's text: {}", printable(text.words.as_str()));
        }
        for (who, labels) in [("board", board), ("host", host)] {
            for label in labels {
                println!("  {who} said: {}", printable(&terminal::json(&label.action)?));
            }
        }
        Ok(())
    }
}

impl Label {
    fn run(self, action: &LabelAction) -> Result<()> {
        let mut home = self.place.open()?;
        // A slip in one name labels nothing.
        self.pairs.iter().try_for_each(|pair| home.pair(pair).map(drop))?;
        for pair in &self.pairs {
            line(&home.label(pair, action, host::now_s())?, self.place.json)?;
        }
        Ok(())
    }
}

impl Delete {
    fn run(self) -> Result<()> {
        let mut home = self.place.open()?;
        let (doomed, reason) = match (self.pair, self.device) {
            (Some(pair), _) => (Doomed::Pair(pair), "one of its pairs was deleted".to_owned()),
            (None, Some(device)) => {
                let reason = format!("the pairs of {device} were deleted");
                (Doomed::Device(device), reason)
            }
            (None, None) => bail!("name a pair, or a board with --device"),
        };
        let deleted = home.delete(&doomed, &reason, host::now_s())?;
        if self.place.json {
            println!("{}", terminal::json(&deleted)?);
            return Ok(());
        }
        println!("{} pairs are deleted", deleted.pairs);
        for version in &deleted.versions {
            println!("version {version} of the dataset had one of them: it is withdrawn, and its files are gone");
        }
        if let Doomed::Device(device) = &doomed {
            println!(
                "what {device} sends from now on is taken: \"edgeblip-trainer devices revoke\" lets it in no more"
            );
        }
        println!("backups still have them until the next \"edgeblip-trainer backup\"");
        Ok(())
    }
}
