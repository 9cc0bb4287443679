//! What the operator sees. Every text goes through `html!`, which escapes it, and through `printable`, which takes out what
//! would turn the direction of writing.

use host::deletion::Deleted;
use host::releases::Standing as Released;
use host::retention::Outdated;
use host::versions::{Standing as VersionStanding, Version};
use host::{Device, HomePair, Standing};
use maud::{DOCTYPE, Markup, html};
use store::State;
use terminal::printable;

use crate::asked::Asked;

/// A whole page.
pub(crate) fn document(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (printable(title)) " · edgeblip host" }
                link rel="stylesheet" href="/desk.css";
            }
            body {
                nav { a href="/" { "Host" } a href="/pairs" { "Pairs" } }
                main { (body) }
            }
        }
    }
}

/// Seconds since 1970 as people read them, in UTC.
fn moment(at_s: i64) -> String {
    jiff::Timestamp::from_second(at_s).map_or_else(|_| "at no time".to_owned(), |time| time.to_string())
}

/// What the first page shows.
pub(crate) struct Overview {
    pub(crate) devices: Vec<Device>,
    pub(crate) arrivals: Vec<HomePair>,
    pub(crate) versions: Vec<Version>,
    pub(crate) released: Released,
    pub(crate) has_backup: bool,
}

impl Overview {
    pub(crate) fn page(&self) -> Markup {
        html! {
            section aria-labelledby="boards" {
                h1 #boards { "Boards" }
                @if self.devices.is_empty() { p { "No board is let in: \"edgeblip-trainer devices approve\" does that." } }
                @for device in &self.devices { (board(device)) }
            }
            section aria-labelledby="arrivals" {
                h2 #arrivals { "Last arrivals" }
                (cards(&self.arrivals))
                p { a href="/pairs" { "All pairs" } }
            }
            section aria-labelledby="releases" {
                h2 #releases { "Releases" }
                @match &self.released.newest {
                    Some(newest) => p {
                        "Release " (newest.sequence) " is the newest, for " (newest.share)
                        " boards of 1,000, until " (moment(newest.expires_s)) "."
                    },
                    None => p { "Nothing is released." },
                }
            }
            section aria-labelledby="datasets" {
                h2 #datasets { "Datasets" }
                @if self.versions.is_empty() { p { "None: \"edgeblip-trainer dataset write\" makes one." } }
                ul { @for version in &self.versions { (dataset(version)) } }
            }
            (self.keeping())
        }
    }

    fn keeping(&self) -> Markup {
        html! {
            section aria-labelledby="keeping" {
                h2 #keeping { "Keeping" }
                form method="post" action="/retention" {
                    label { "Pairs that arrived more than " input name="days" type="number" min="1" max="36500" value="365" required; " days ago" }
                    button { "What would go?" }
                }
                @if self.has_backup {
                    form method="post" action="/backup" { button { "Back up now" } }
                } @else {
                    p { "Backups from here: start the host with --backup DIR." }
                }
            }
        }
    }
}

fn board(device: &Device) -> Markup {
    let name = device.name.as_str();
    let is_active = device.standing == Standing::Active;
    html! {
        article.board {
            h3 { a href={ "/pairs?device=" (name) } { (name) } }
            p {
                (printable(&device.board)) ", " (device.pairs) " pairs, " (device.bytes >> 20) " MiB; "
                @if is_active { "let in" } @else { "let in no more" } " since " (moment(device.since_s))
            }
            p.fingerprint { (device.key.fingerprint()) }
            details {
                summary { "Change" }
                @if is_active {
                    form method="post" action={ "/devices/" (name) "/revoke" } { button { "Let in no more" } }
                }
                form method="post" action={ "/devices/" (name) "/delete" } {
                    label { "Type its name to delete all of its pairs here: " input name="name" autocomplete="off" required; }
                    button.dangerous { "Delete" }
                }
            }
        }
    }
}

fn dataset(version: &Version) -> Markup {
    let stands = match &version.standing {
        VersionStanding::Withdrawn { reason, .. } => Some(reason),
        _ => None,
    };
    html! {
        li {
            "Version " (version.number) ", " (version.card.pairs) " pairs, " (moment(version.at_s))
            @if let Some(reason) = stands { ", withdrawn: " (printable(reason)) }
        }
    }
}

/// A page of pairs.
pub(crate) fn pairs(asked: &Asked, pairs: &[HomePair], next: Option<String>) -> Markup {
    let state = asked.state.as_deref().unwrap_or_default();
    html! {
        h1 { "Pairs" }
        form.filter method="get" action="/pairs" {
            label { "Board " input name="device" value=(asked.device.as_deref().unwrap_or_default()); }
            label { "State "
                select name="state" {
                    @for (value, words) in [("", "any"), ("kept", "kept"), ("rejected", "rejected")] {
                        option value=(value) selected[value == state] { (words) }
                    }
                }
            }
            label { "Text " input name="text" value=(asked.text.as_deref().unwrap_or_default()); }
            button { "Show" }
        }
        (cards(pairs))
        @if let Some(next) = next { p { a rel="next" href=(next) { "Next" } } }
    }
}

fn cards(pairs: &[HomePair]) -> Markup {
    html! {
        div.cards {
            @if pairs.is_empty() { p { "None." } }
            @for pair in pairs { (card(pair)) }
        }
    }
}

/// The texts that go with a pair's picture, or those that were turned down.
fn said(pair: &HomePair) -> String {
    let texts = pair.texts();
    texts.first().map_or_else(|| "no text".to_owned(), |text| printable(text.words.as_str()))
}

fn card(pair: &HomePair) -> Markup {
    let name = pair.sha256().to_string();
    let words = said(pair);
    let is_kept = pair.state() == State::Kept;
    html! {
        article.pair {
            a href={ "/pairs/" (name) } {
                @if pair.picture_at.is_some() { img src={ "/pairs/" (name) "/picture" } alt=(words) loading="lazy"; }
            }
            p.words { (words) }
            p.state { @if is_kept { "kept" } @else { "rejected" } " by the " (pair.word().name()) ", " (pair.device) }
            (decisions(&name, &words))
        }
    }
}

fn decisions(name: &str, words: &str) -> Markup {
    html! {
        form method="post" action={ "/pairs/" (name) "/label" } {
            button name="action" value="accept" { "Accept" }
            button name="action" value="reject" { "Reject" }
        }
        form method="post" action={ "/pairs/" (name) "/label" } {
            input name="text" value=(words) aria-label="Text" maxlength="256" required;
            button name="action" value="rewrite" { "Rewrite" }
        }
    }
}

/// One pair with all of its texts.
pub(crate) fn pair(pair: &HomePair) -> Markup {
    let name = pair.sha256().to_string();
    html! {
        h1 { (said(pair)) }
        @if pair.picture_at.is_some() {
            figure { img.whole src={ "/pairs/" (name) "/picture" } alt=(said(pair)); }
        }
        table {
            thead { tr { th { "Text" } th { "ITM" } th { "ITC" } th { "Decision" } } }
            tbody {
                @for text in pair.texts() {
                    tr {
                        td { (printable(text.words.as_str())) }
                        td { @if let Some(itm) = text.itm { (format!("{itm:.3}")) } }
                        td { @if let Some(itc) = text.itc { (format!("{itc:.3}")) } }
                        td { (format!("{:?}", text.decision).to_lowercase()) }
                    }
                }
            }
        }
        p { (pair.device) " " (pair.pair.facts.id) ", arrived " (moment(pair.arrived_s)) }
        p.fingerprint { (name) }
        (decisions(&name, &said(pair)))
        details {
            summary { "Delete" }
            form method="post" action={ "/pairs/" (name) "/delete" } {
                p { "Its picture and texts are removed from this host, and datasets that have it are withdrawn." }
                button.dangerous { "Delete" }
            }
        }
    }
}

/// What a deletion did.
pub(crate) fn deleted(deleted: &Deleted) -> Markup {
    html! {
        h1 { "Deleted" }
        p { (deleted.pairs) " pairs are gone, and " (deleted.shards) " shards in which nothing was left." }
        @if !deleted.versions.is_empty() {
            p { "Datasets withdrawn: " @for version in &deleted.versions { (version) " " } }
        }
        p { a href="/" { "The host" } }
    }
}

/// What would go.
pub(crate) fn outdated(days: u32, outdated: &Outdated) -> Markup {
    html! {
        h1 { "Pairs that are older than " (days) " days" }
        p { (outdated.pairs) " pairs, " (outdated.bytes >> 20) " MiB, would go; " (outdated.in_versions) " more are as old and stay, because a dataset has them." }
        @if outdated.pairs > 0 {
            form method="post" action="/retention" {
                input type="hidden" name="days" value=(days);
                button.dangerous name="go" value="yes" { "Delete them" }
            }
        }
        p { a href="/" { "The host" } }
    }
}
