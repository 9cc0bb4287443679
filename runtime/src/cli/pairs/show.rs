//! Pairs as lines for people, and as JSON.

use std::process::ExitCode;

use anyhow::Result;
use field::clock::written;
use serde_json::{Map, Value, json};
use store::{Decision, Entry, Origin, PairFacts, Stamp, Stats, StoredPair, Text, Verification};
use terminal::{printable, shown};

use crate::cli::{say, say_json};

/// One pair of a list: the text that is shown first is the best that is kept, else the first.
pub(super) fn entry(entry: &Entry, is_json: bool) -> Result<()> {
    let facts = entry.facts.as_ref();
    let state = word(&entry.state);
    if is_json {
        return say_json(&json!({
            "pair": entry.id.to_string(), "state": state, "score": entry.score, "bytes": entry.bytes,
            "picture": facts.map(PairFacts::has_picture), "synced": entry.is_synced, "human": entry.has_human_text,
            "camera": facts.map(|facts| facts.sensor.camera.as_str()),
            "trigger": facts.map(|facts| facts.sensor.trigger.as_str()),
            "taken": facts.map(|facts| facts.taken),
            "texts": facts.map(|facts| facts.texts.iter().map(text_json).collect::<Vec<_>>()),
        }));
    }
    let text = facts.and_then(best).map_or("", |text| text.words.as_str());
    let trigger = facts.map_or("", |facts| facts.sensor.trigger.as_str());
    let note = if facts.is_none_or(PairFacts::has_picture) { "" } else { "  (no picture)" };
    let time = facts.and_then(|facts| time(&facts.taken)).unwrap_or_else(|| "unknown".to_owned());
    let (id, text) = (entry.id.to_string(), printable(text));
    say(&format!("{id:<8} {time:<20} {state:<8} {:.4}  {trigger:<8} {text}{note}", entry.score))
}

fn best(facts: &PairFacts) -> Option<&Text> {
    let kept = facts.texts.iter().filter(|text| text.decision == Decision::Kept);
    kept.max_by(|one, other| one.itm.unwrap_or(0.0).total_cmp(&other.itm.unwrap_or(0.0))).or(facts.texts.first())
}

/// One pair with everything that is known about it.
pub(super) fn pair(pair: &StoredPair, is_json: bool) -> Result<()> {
    let facts = &pair.facts;
    let sha256: String = pair.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    if is_json {
        return say_json(&json!({ "facts": facts, "labels": pair.labels, "sha256": sha256 }));
    }
    let picture =
        if facts.has_picture() { format!("{} bytes of picture", facts.jpeg_bytes) } else { "no picture".to_owned() };
    say(&format!("pair {}  {picture}  SHA-256 {sha256}", facts.id))?;
    let sensor = &facts.sensor;
    say(&format!("taken by {} ({}), boot {}", sensor.camera, sensor.trigger, facts.boot_id))?;
    let time = time(&facts.taken).unwrap_or_else(|| "unknown".to_owned());
    say(&format!(
        "time {time} ({}), {} ms since the board's start",
        word(&facts.taken.quality),
        facts.taken.since_boot_ms
    ))?;
    if let Some(celsius) = sensor.temperature_c {
        say(&format!("board {celsius:.1} degrees Celsius, throttling flags {}", hex(sensor.throttled)))?;
    }
    if let Some(place) = &facts.place {
        let where_it_is = place.coordinates.map_or_else(String::new, |[north, east]| format!(" {north} {east}"));
        say(&format!("place {} {}{where_it_is}", place.deployment, place.name))?;
    }
    if let Some(bundle) = &facts.bundle {
        say(&format!("bundle {bundle}"))?;
    }
    for text in &facts.texts {
        say(&text_line(text))?;
    }
    for label in &pair.labels {
        let by = label.by.as_ref().map_or("somebody", |by| by.as_str());
        say(&format!("label by {by}: {}", printable(&serde_json::to_string(&label.action)?)))?;
    }
    Ok(())
}

/// A wall time to the second, in UTC.
fn time(taken: &Stamp) -> Option<String> {
    taken.wall_ms.and_then(|wall_ms| written(wall_ms.div_euclid(1000).saturating_mul(1000)))
}

fn hex(flags: Option<u32>) -> String {
    flags.map_or_else(|| "unknown".to_owned(), |flags| format!("{flags:#x}"))
}

fn text_line(text: &Text) -> String {
    let score = |score: Option<f32>| score.map_or_else(|| "   -   ".to_owned(), |score| format!("{score:+.4}"));
    let decision = match &text.decision {
        Decision::Kept => "kept".to_owned(),
        Decision::Rejected(reason) => format!("rejected: {reason}"),
    };
    let (itm, itc, log_prob) = (score(text.itm), score(text.itc), score(text.log_prob));
    let origin = word(&text.origin);
    format!(
        "  {origin:<9} ITM {itm}  ITC {itc}  log-probability {log_prob}  {decision:<20} {}",
        printable(text.words.as_str())
    )
}

fn text_json(text: &Text) -> Value {
    let (decision, reason) = match &text.decision {
        Decision::Kept => ("kept", None),
        Decision::Rejected(reason) => ("rejected", Some(reason.as_str())),
    };
    json!({
        "words": text.words, "origin": text.origin, "itm": text.itm, "itc": text.itc, "log_prob": text.log_prob,
        "decision": decision, "reason": reason,
    })
}

/// Counts over everything.
pub(super) fn stats(stats: &Stats, is_json: bool) -> Result<ExitCode> {
    let unreadable: Vec<String> = stats.unreadable.iter().map(|path| path.display().to_string()).collect();
    if is_json {
        let states: Map<String, Value> =
            stats.states.iter().map(|(state, count)| (word(state), json!(count))).collect();
        let origins: Map<String, Value> = stats
            .origins
            .iter()
            .map(|(origin, [kept, rejected])| (word(origin), json!({ "kept": kept, "rejected": rejected })))
            .collect();
        say_json(&json!({
            "pairs": stats.pairs(), "files": stats.files, "bytes": stats.bytes, "disk_bytes": stats.disk_bytes,
            "states": states, "without_picture": stats.without_picture, "texts": origins, "synced": stats.synced, "human": stats.human, "gone": stats.gone,
            "tombstones": stats.tombstones, "unreadable": unreadable,
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    say(&format!(
        "{} pairs in {} files, {} bytes, {} on the disk",
        stats.pairs(),
        stats.files,
        stats.bytes,
        stats.disk_bytes
    ))?;
    for (state, count) in &stats.states {
        say(&format!("{}: {count}", word(state)))?;
    }
    say(&format!("texts without their picture: {}", stats.without_picture))?;
    say(&format!("synced: {}, with words by people: {}, tombstones: {}", stats.synced, stats.human, stats.tombstones))?;
    for origin in Origin::ALL {
        if let (Some([kept, rejected]), Some(share)) = (stats.origins.get(&origin), stats.share_of_rejects(origin)) {
            let share = share * 100.0;
            say(&format!("texts by {}: {kept} kept, {rejected} rejected ({share:.0} %)", word(&origin)))?;
        }
    }
    for (reason, count) in &stats.gone {
        say(&format!("gone, {reason}: {count}"))?;
    }
    for path in &stats.unreadable {
        say(&format!("cannot be read: {}", shown(path)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a look at every hash found.
pub(super) fn verification(found: &Verification, is_json: bool) -> Result<ExitCode> {
    if is_json {
        let faults: Vec<Value> = found
            .faults
            .iter()
            .map(|fault| json!({ "path": fault.path.display().to_string(), "pair": fault.id.map(|id| id.to_string()), "what": fault.what }))
            .collect();
        say_json(&json!({ "sound": found.sound, "bytes": found.bytes, "faults": faults }))?;
    } else {
        for fault in &found.faults {
            let pair = fault.id.map_or_else(String::new, |id| format!(" pair {id}:"));
            say(&format!("{}:{pair} {}", shown(&fault.path), printable(&fault.what)))?;
        }
        say(&format!(
            "{} pairs are what was stored, {} bytes; {} faults",
            found.sound,
            found.bytes,
            found.faults.len()
        ))?;
    }
    Ok(if found.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The name of a state or an origin, as it is stored.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}
