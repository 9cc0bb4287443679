//! Requests that change something.

use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{Html, Redirect};
use blip::caption::Caption;
use exchange::DeviceName;
use host::PairName;
use host::backup::Check;
use host::deletion::Doomed;
use host::now_s;
use host::retention::Retention;
use maud::html;
use serde::Deserialize;
use store::LabelAction;

use crate::Shared;
use crate::answers::{Refusal, page};
use crate::reading::with_home;
use crate::views;

/// Why an operator deletes, where nothing else is said.
const REASON: &str = "the operator deleted a pair of it";

#[derive(Deserialize)]
pub(crate) struct Labelled {
    action: String,
    text: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Confirmed {
    name: String,
}

#[derive(Deserialize)]
pub(crate) struct Kept {
    days: u32,
    go: Option<String>,
}

pub(crate) async fn label(
    State(desk): Shared,
    Path(name): Path<String>,
    Form(labelled): Form<Labelled>,
) -> Result<Redirect, Refusal> {
    let action = labelled.action()?;
    let named: PairName = name.parse()?;
    let pair = with_home(desk, move |home| Ok(home.label(&named, &action, now_s())?)).await?;
    Ok(Redirect::to(&format!("/pairs/{}", pair.sha256())))
}

impl Labelled {
    fn action(self) -> Result<LabelAction, Refusal> {
        let bad = |words: String| Refusal::new(StatusCode::BAD_REQUEST, words);
        match self.action.as_str() {
            "accept" => Ok(LabelAction::Accept),
            "reject" => Ok(LabelAction::Reject),
            "rewrite" => {
                let text = self.text.ok_or_else(|| bad("a rewrite needs a text".to_owned()))?;
                Caption::new(text).map(LabelAction::Rewrite).map_err(|error| bad(error.to_string()))
            }
            _ => Err(bad("action is accept, reject or rewrite".to_owned())),
        }
    }
}

pub(crate) async fn delete_pair(State(desk): Shared, Path(name): Path<String>) -> Result<Html<String>, Refusal> {
    let doomed = Doomed::Pair(name.parse()?);
    let deleted = with_home(desk, move |home| Ok(home.delete(&doomed, REASON, now_s())?)).await?;
    Ok(page("Deleted", views::deleted(&deleted)))
}

pub(crate) async fn revoke(State(desk): Shared, Path(name): Path<String>) -> Result<Redirect, Refusal> {
    let device = device(&name)?;
    let revoked =
        with_home(desk, move |home| home.revoke(&device).map_err(|error| Refusal::of(StatusCode::NOT_FOUND, &error)));
    revoked.await?;
    Ok(Redirect::to("/"))
}

pub(crate) async fn delete_device(
    State(desk): Shared,
    Path(name): Path<String>,
    Form(confirmed): Form<Confirmed>,
) -> Result<Html<String>, Refusal> {
    let device = device(&name)?;
    if confirmed.name.trim() != device.as_str() {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, format!("type {device} to delete all of its pairs")));
    }
    let doomed = Doomed::Device(device);
    let deleted =
        with_home(desk, move |home| Ok(home.delete(&doomed, "the operator deleted a board's pairs", now_s())?));
    Ok(page("Deleted", views::deleted(&deleted.await?)))
}

pub(crate) async fn retain(State(desk): Shared, Form(kept): Form<Kept>) -> Result<Html<String>, Refusal> {
    if kept.days == 0 {
        return Err(Refusal::new(StatusCode::BAD_REQUEST, "days: one at least"));
    }
    let retention = if kept.go.as_deref() == Some("yes") { Retention::Delete } else { Retention::Count };
    let days = kept.days;
    let (outdated, deleted) = with_home(desk, move |home| Ok(home.retain(days, retention, now_s())?)).await?;
    Ok(match retention {
        Retention::Count => page("Keeping", views::outdated(days, &outdated)),
        Retention::Delete => page("Deleted", views::deleted(&deleted)),
    })
}

pub(crate) async fn back_up(State(desk): Shared) -> Result<Html<String>, Refusal> {
    let Some(to) = desk.backup.clone() else {
        return Err(Refusal::new(StatusCode::NOT_FOUND, "start the host with --backup DIR"));
    };
    let fault = |error: host::backup::BackupError| Refusal::of(StatusCode::INTERNAL_SERVER_ERROR, &error);
    let done = with_home(desk, move |home| home.back_up(&to, Check::Sample).map_err(fault)).await?;
    let body = html! {
        h1 { "Backed up" }
        p { (done.pairs) " pairs in " (done.shards) " shards; " (done.copied) " files were new." }
        @for fault in &done.faults { p.dangerous { (terminal::printable(fault)) } }
        p { a href="/" { "The host" } }
    };
    Ok(page("Backed up", body))
}

fn device(name: &str) -> Result<DeviceName, Refusal> {
    name.parse().map_err(|error: exchange::device::DeviceNameError| Refusal::of(StatusCode::BAD_REQUEST, &error))
}
