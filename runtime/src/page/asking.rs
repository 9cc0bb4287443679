//! Requests that ask the board to do something.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Form, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use blip::caption::Caption;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{LabelAction, PairId};

use super::answers::{is_for_people, refuse, refused};
use super::keys::{Kind, now_s};
use super::{SESSION, Shared, guard};
use crate::face::{Refusal, Request};
use crate::filter::Scored;

#[derive(Deserialize)]
pub(super) struct Entry {
    #[serde(default)]
    link: String,
}

/// Lets a browser in.
pub(super) async fn enter(State(app): Shared, headers: HeaderMap, Query(entry): Query<Entry>) -> Response {
    let now_s = now_s();
    if !app.keys.use_link(&entry.link, now_s) {
        let words = "the link was used, or is too old: \"edgeblip page link\" prints another one on the board";
        return refuse(&headers, StatusCode::UNAUTHORIZED, words);
    }
    match app.keys.make(Kind::Session, SESSION.as_secs(), now_s) {
        Ok(token) => {
            let cookie = guard::cookie(&token, SESSION.as_secs());
            (StatusCode::SEE_OTHER, [(header::SET_COOKIE, cookie), (header::LOCATION, "/".to_owned())]).into_response()
        }
        Err(error) => refuse(&headers, StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Takes a frame. What a program sends along is a text for it.
pub(super) async fn take(State(app): Shared, headers: HeaderMap, body: Bytes) -> Response {
    let is_form = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/x-www-form-urlencoded");
    let words = if is_form { "" } else { std::str::from_utf8(&body).unwrap_or("\u{0}").trim() };
    let note = match Caption::new(words) {
        Ok(words) => Some(words).filter(|words| !words.as_str().is_empty()),
        Err(error) => return refuse(&headers, StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    };
    match app.outside.ask(|answer| Request::Take { note, answer }).await {
        Ok(()) => done(&headers, "/", "taken"),
        Err(refusal) => refused(&headers, &refusal),
    }
}

#[derive(Deserialize)]
pub(super) struct Label {
    action: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    back: String,
}

pub(super) async fn label(
    State(app): Shared,
    headers: HeaderMap,
    Path(pair): Path<PairId>,
    Form(label): Form<Label>,
) -> Response {
    let action = match action(&label) {
        Ok(action) => action,
        Err(reason) => return refuse(&headers, StatusCode::UNPROCESSABLE_ENTITY, &reason),
    };
    match app.outside.ask(|answer| Request::Label { pair, action, answer }).await {
        Ok(()) => done(&headers, &label.back, "labelled"),
        Err(refusal) => refused(&headers, &refusal),
    }
}

fn action(label: &Label) -> Result<LabelAction, String> {
    let text = || {
        let words = label.text.trim();
        let text = Caption::new(words).map_err(|error| error.to_string())?;
        if words.is_empty() { Err("a text is empty".to_owned()) } else { Ok(text) }
    };
    match label.action.as_str() {
        "accept" => Ok(LabelAction::Accept),
        "reject" => Ok(LabelAction::Reject),
        "rewrite" => text().map(LabelAction::Rewrite),
        "add" => text().map(LabelAction::Add),
        _ => Err("action is accept, reject, rewrite or add".to_owned()),
    }
}

/// Captions a picture that is not the camera's.
pub(super) async fn caption(State(app): Shared, headers: HeaderMap, body: Bytes) -> Response {
    if body.is_empty() {
        let refusal = Refusal::Unusable("send the bytes of a picture file as the body".to_owned());
        return refused(&headers, &refusal);
    }
    match app.outside.ask(|answer| Request::Caption { picture: body.to_vec(), answer }).await {
        Ok(texts) => {
            let shown = texts.first();
            Json(json!({
                "caption": shown.map(|text| text.words.as_str()), "match": shown.and_then(|text| text.itm),
                "texts": texts.iter().map(scored_json).collect::<Vec<_>>(),
            }))
            .into_response()
        }
        Err(refusal) => refused(&headers, &refusal),
    }
}

fn scored_json(text: &Scored) -> Value {
    json!({
        "text": text.words.as_str(), "origin": text.origin, "match": text.itm, "cosine": text.itc,
        "log_prob": text.log_prob,
    })
}

/// For people the page that they came from, if it is one of ours.
fn done(headers: &HeaderMap, back: &str, what: &str) -> Response {
    if !is_for_people(headers) {
        return Json(json!({ "done": what })).into_response();
    }
    let is_ours = back.starts_with('/')
        && !back.starts_with("//")
        && back.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    let place = if is_ours { back } else { "/" };
    (StatusCode::SEE_OTHER, [(header::LOCATION, place.to_owned())]).into_response()
}
