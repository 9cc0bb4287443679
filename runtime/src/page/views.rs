//! What people see. Every text goes through `html!`, which escapes it, and through [`words`], which takes out what would
//! turn the direction of writing.

use blip::caption::Origin;
use field::clock::written;
use maud::{DOCTYPE, Markup, html};
use store::{Counts, Decision, LabelAction, PairId, Stamp, State, StoredPair, Text};
use terminal::printable;

use crate::face::{Health, Look};

/// A whole page.
pub(super) fn document(title: &str, body: Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (words(title)) }
                link rel="icon" href="/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/page.css";
                script src="/page.js" defer {}
            }
            body { (body) }
        }
    }
}

/// What a visitor may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    /// Look.
    Looks,
    /// Say what is right, too.
    Labels,
}

/// The board's first page.
pub(super) struct Home<'a> {
    pub(super) name: &'a str,
    pub(super) look: Option<&'a Look>,
    pub(super) health: Option<&'a Health>,
    pub(super) counts: &'a Counts,
    pub(super) way_home: &'a str,
    pub(super) pairs: &'a [StoredPair],
    pub(super) visitor: Visitor,
}

impl Home<'_> {
    pub(super) fn page(&self) -> Markup {
        let body = html! {
            (bar(self.name, ""))
            main {
                (self.sight())
                section aria-labelledby="last" {
                    h2 #last { "Last pairs" }
                    (cards(self.pairs, "/", self.visitor))
                    p { a href="/pairs" { "All pairs" } }
                }
                (self.state())
            }
        };
        document(self.name, body)
    }

    fn sight(&self) -> Markup {
        let look = self.look;
        let shown = look.and_then(|look| look.texts.first());
        html! {
            section #sight aria-label="What the camera sees" data-number=(look.map_or(0, |look| look.number)) {
                @if let Some(look) = look {
                    figure {
                        img #picture src={ "/look.jpg?" (look.number) } alt=(shown.map_or_else(String::new, |text| words(text.words.as_str())));
                        figcaption #caption { (shown.map_or_else(|| "no caption".to_owned(), |text| words(text.words.as_str()))) }
                    }
                    p #verdict { (look.fate) ", taken by " (look.trigger) (self.time(look)) }
                    table #scores { (scores(&look.texts)) }
                } @else {
                    p { "Nothing has been looked at yet." }
                }
                div.live {
                    button #live type="button" hidden { "Live picture" }
                    @if self.visitor == Visitor::Labels {
                        form method="post" action="/take" { button { "Take a picture now" } }
                    }
                }
            }
        }
    }

    fn time(&self, look: &Look) -> String {
        look.taken.known_ms().and_then(seconds).map_or_else(String::new, |time| format!(", {time} UTC"))
    }

    fn state(&self) -> Markup {
        let counts = self.counts;
        html! {
            section aria-labelledby="state" {
                h2 #state { "State" }
                dl #health { (health(self.health)) }
                dl {
                    dt { "Store" }
                    dd { (counts.kept) " kept, " (counts.rejected) " rejected, " (mebibytes(counts.bytes)) " MiB" }
                    dt { "By people" }
                    dd { (counts.human) }
                    dt { "Home" }
                    dd { (counts.unsynced) " not at home: " (self.way_home) }
                }
                @if self.visitor == Visitor::Looks {
                    p { "To say which captions are right, open the link that " code { "edgeblip page link" } " prints on the board." }
                }
            }
        }
    }
}

/// How the board does, as terms and their values.
pub(super) fn health(health: Option<&Health>) -> Markup {
    let Some(health) = health else { return html! { dt { "Status" } dd { "starting" } } };
    let reading = &health.reading;
    html! {
        dt { "Status" }
        dd { (health.status_name()) @if let Some(trouble) = &health.trouble { ": " (words(trouble)) } }
        dt { "Camera" }
        dd { (words(&health.camera)) ": frames " (words(&health.frames)) }
        dt { "Frames" }
        dd {
            (health.kept) " kept, " (health.rejected) " rejected, "
            (health.dropped.iter().map(|(_, count)| count).sum::<u64>()) " dropped since the start"
        }
        @if let Some(rejects) = health.rejects {
            dt { "Filter" }
            dd { (format!("{:.0} % of texts rejected", rejects * 100.0)) }
        }
        dt { "Heat" }
        dd {
            @match reading.celsius { Some(celsius) => (format!("{celsius:.1} °C")), None => "no sensor" }
            @if let Some(slowed) = health.slowed() { ", slower by " (format!("{:.1}", health.pace.stretch)) ": " (slowed) }
        }
        @if let Some(throttled) = reading.throttled {
            dt { "Throttled" }
            dd { (format!("{:#x}", throttled.0)) }
        }
        dt { "Clock" }
        dd { (health.now.wall_ms.and_then(seconds).unwrap_or_else(|| "unknown".to_owned())) " UTC, by " (health.now.quality.name()) }
        dt { "Bundle" }
        dd.long { (health.bundle.as_deref().unwrap_or("loading")) }
    }
}

/// A list of pairs on a page of its own.
pub(super) struct List<'a> {
    pub(super) name: &'a str,
    pub(super) pairs: &'a [StoredPair],
    /// What was looked for; nothing for all.
    pub(super) query: Option<&'a str>,
    /// How it was looked for, or why nothing is there.
    pub(super) note: &'a str,
    /// Where it goes on.
    pub(super) next: Option<String>,
    pub(super) here: &'a str,
    pub(super) visitor: Visitor,
}

impl List<'_> {
    pub(super) fn page(&self) -> Markup {
        let title =
            self.query.map_or_else(|| "Pairs".to_owned(), |query| format!("Pairs like \u{201c}{query}\u{201d}"));
        let body = html! {
            (bar(self.name, self.query.unwrap_or_default()))
            main {
                h1 { (words(&title)) }
                @if !self.note.is_empty() { p { (self.note) } }
                (cards(self.pairs, self.here, self.visitor))
                @if let Some(next) = &self.next { p { a href=(next) rel="next" { "Older" } } }
            }
        };
        document(&title, body)
    }
}

/// One pair with all that is known about it.
pub(super) fn pair(name: &str, pair: &StoredPair, visitor: Visitor) -> Markup {
    let facts = &pair.facts;
    let id = facts.id;
    let here = format!("/pairs/{id}");
    let body = html! {
        (bar(name, ""))
        main {
            h1 { "Pair " (id) }
            @if pair.jpeg.is_some() {
                figure { a href={ "/pairs/" (id) ".jpg" } { img src={ "/pairs/" (id) ".jpg" } alt=(headline(pair)); } figcaption { (headline(pair)) } }
            } @else {
                p { "Its picture was rejected and is not kept." }
            }
            (controls(pair, &here, visitor))
            table { (scores(&facts.texts)) }
            @if !pair.labels.is_empty() {
                h2 { "What people said" }
                ul { @for label in &pair.labels { li { (said(&label.action)) @if let Some(time) = stamp(&label.at) { ", " (time) " UTC" } } } }
            }
            dl {
                dt { "State" } dd { (state_name(pair.state())) }
                dt { "Taken" } dd { (stamp(&facts.taken).unwrap_or_else(|| "at an unknown time".to_owned())) " by " (words(facts.sensor.trigger.as_str())) }
                dt { "Camera" } dd { (words(facts.sensor.camera.as_str())) }
                @if let Some(place) = &facts.place {
                    dt { "Place" }
                    dd { (words(place.name.as_str())) @if let Some([north, east]) = place.coordinates { " " (north) " " (east) } }
                }
                @if let Some(bundle) = &facts.bundle { dt { "Bundle" } dd.long { (words(bundle.as_str())) } }
            }
        }
    };
    document(&format!("Pair {id}"), body)
}

fn bar(name: &str, query: &str) -> Markup {
    html! {
        header {
            a.home href="/" { (words(name)) }
            form role="search" action="/search" {
                input type="search" name="q" value=(words(query)) placeholder="an owl on sand" aria-label="Search pairs by a text" maxlength="256";
                button { "Search" }
            }
        }
    }
}

fn cards(pairs: &[StoredPair], back: &str, visitor: Visitor) -> Markup {
    html! {
        @if pairs.is_empty() { p { "There are none." } }
        ul.cards {
            @for pair in pairs {
                @let id = pair.facts.id;
                li id={ "pair-" (id) } class=(state_name(pair.state())) {
                    a href={ "/pairs/" (id) } {
                        @if pair.jpeg.is_some() {
                            img src={ "/pairs/" (id) ".jpg?small" } alt="" loading="lazy" width="320" height="180";
                        } @else {
                            span.none { "no picture" }
                        }
                    }
                    p.headline { (headline(pair)) }
                    p.facts {
                        (state_name(pair.state()))
                        @if let Some(score) = pair.texts().first().or(pair.facts.texts.first()).and_then(|text| text.itm) {
                            ", matches " (percent(score))
                        }
                        @if let Some(time) = stamp(&pair.facts.taken) { ", " (time) }
                    }
                    (controls(pair, &format!("{back}#pair-{id}"), visitor))
                }
            }
        }
    }
}

/// Accept, reject, rewrite.
fn controls(pair: &StoredPair, back: &str, visitor: Visitor) -> Markup {
    if visitor == Visitor::Looks || pair.jpeg.is_none() {
        return html! {};
    }
    html! {
        form.label method="post" action={ "/pairs/" (pair.facts.id) "/label" } {
            input type="hidden" name="back" value=(back);
            // Enter in the field rewrites: of several buttons the first is the one that it presses.
            input type="text" name="text" value=(headline(pair)) aria-label="A better caption" maxlength="256" autocomplete="off";
            button name="action" value="rewrite" { "Rewrite" }
            button name="action" value="accept" { "Accept" }
            button name="action" value="reject" { "Reject" }
        }
    }
}

/// Rows of a table: texts with their scores.
pub(super) fn scores(texts: &[Text]) -> Markup {
    html! {
        thead { tr { th scope="col" { "Text" } th scope="col" { "From" } th scope="col" { "Match" } th scope="col" { "Cosine" } th scope="col" { "Filter" } } }
        tbody {
            @for text in texts {
                tr {
                    td { (words(text.words.as_str())) }
                    td { (origin(text.origin)) }
                    td { (text.itm.map_or_else(|| "-".to_owned(), percent)) }
                    td { (text.itc.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.2}"))) }
                    td {
                        @match &text.decision { Decision::Kept => "kept", Decision::Rejected(reason) => (words(reason.as_str())) }
                    }
                }
            }
        }
    }
}

/// What stands for a pair in a list.
fn headline(pair: &StoredPair) -> String {
    let texts = pair.texts();
    let shown = texts.first().or(pair.facts.texts.first());
    shown.map_or_else(|| "no text".to_owned(), |text| words(text.words.as_str()))
}

fn said(action: &LabelAction) -> String {
    match action {
        LabelAction::Add(text) => format!("also \u{201c}{}\u{201d}", words(text.as_str())),
        LabelAction::Rewrite(text) => format!("rewritten: \u{201c}{}\u{201d}", words(text.as_str())),
        LabelAction::Accept => "accepted".to_owned(),
        LabelAction::Reject => "rejected".to_owned(),
    }
}

fn state_name(state: State) -> &'static str {
    match state {
        State::Kept => "kept",
        State::Rejected => "rejected",
    }
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Caption => "captioner",
        Origin::Candidate => "candidate",
        Origin::Sidecar => "beside the picture",
        Origin::Tag => "trigger",
        Origin::Place => "place",
        Origin::Human => "a person",
    }
}

fn percent(share: f32) -> String {
    format!("{:.0} %", share * 100.0)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 20))
}

fn stamp(stamp: &Stamp) -> Option<String> {
    stamp.wall_ms.and_then(seconds)
}

/// A time to the second, in UTC.
fn seconds(wall_ms: i64) -> Option<String> {
    let time = written(wall_ms.div_euclid(1000).saturating_mul(1000))?;
    Some(time.replace('T', " ").trim_end_matches('Z').to_owned())
}

/// A text without what commands anything.
pub(super) fn words(text: &str) -> String {
    printable(text).replace('\n', " ")
}

/// Where the list goes on behind a pair.
pub(super) fn next_page(last: Option<PairId>, is_full: bool) -> Option<String> {
    last.filter(|_| is_full).map(|last| format!("/pairs?behind={last}"))
}
