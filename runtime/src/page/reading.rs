//! Requests that read.

use axum::Json;
use axum::extract::{Path, Query, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use maud::Markup;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Counts, Filter, Order, PairId, Reader, State as PairState, StoreError, StoredPair};
use sync::status::Status;

use super::answers::{is_for_people, refuse, refused};
use super::views::{self, Home, List, Visitor, next_page};
use super::{App, Shared, guard, link, metrics, pictures, search};
use crate::face::{Outside, Refusal, Request, text_json};

/// Pairs on the first page.
const FIRST: usize = 12;
/// Pairs on any other.
const PAGE: usize = 48;
/// Longest text that is searched by, in bytes.
const MAX_QUERY: usize = 256;
/// Pairs' pictures never change.
const FOR_GOOD: &str = "private, max-age=86400, immutable";

pub(super) async fn home(State(app): Shared, headers: HeaderMap) -> Response {
    let way_home = app.way_home.clone();
    let read = read(&app, move |reader| {
        let way_home = Status::read(&way_home).words;
        Ok((
            reader.counts()?,
            way_home,
            newest(reader, Filter { with_picture: true, limit: FIRST, ..Filter::default() })?.0,
        ))
    })
    .await;
    let (counts, way_home, pairs) = read.unwrap_or_default();
    let (look, health) = (app.outside.look(), app.outside.health());
    let home = Home {
        name: &link::host_name(),
        look: look.as_deref(),
        health: health.as_deref(),
        counts: &counts,
        way_home: &way_home,
        pairs: &pairs,
        visitor: visitor(&app, &headers),
    };
    page(home.page())
}

#[derive(Deserialize)]
pub(super) struct Behind {
    behind: Option<PairId>,
}

pub(super) async fn pairs(State(app): Shared, headers: HeaderMap, Query(from): Query<Behind>) -> Response {
    let listed =
        read(&app, move |reader| newest(reader, Filter { since: from.behind, limit: PAGE, ..Filter::default() })).await;
    let (pairs, last) = match listed {
        Ok(listed) => listed,
        Err(error) => return failed(&headers, &error),
    };
    let next = next_page(last, last.is_some());
    if !is_for_people(&headers) {
        return Json(json!({ "pairs": pairs.iter().map(pair_json).collect::<Vec<_>>(), "next": next })).into_response();
    }
    let here = from.behind.map_or_else(|| "/pairs".to_owned(), |behind| format!("/pairs?behind={behind}"));
    let (name, visitor) = (link::host_name(), visitor(&app, &headers));
    page(List { name: &name, pairs: &pairs, query: None, note: "", next, here: &here, visitor }.page())
}

/// A pair, or its picture if the name ends so.
pub(super) async fn pair(
    State(app): Shared,
    headers: HeaderMap,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let (id, is_picture) = name.strip_suffix(".jpg").map_or((name.as_str(), false), |id| (id, true));
    let Ok(id) = id.parse::<PairId>() else { return nothing(headers).await };
    let pair = match read(&app, move |reader| reader.get(id)).await {
        Ok(pair) => pair,
        Err(StoreError::NotThere { id }) => return refused(&headers, &Refusal::NotThere(id)),
        Err(error) => return failed(&headers, &error),
    };
    match (is_picture, pair.jpeg) {
        (true, None) => refuse(&headers, StatusCode::NOT_FOUND, "the pair's picture is not kept"),
        (true, Some(jpeg)) if query.as_deref() == Some("small") => small(&headers, jpeg).await,
        (true, Some(jpeg)) => picture(jpeg, FOR_GOOD),
        (false, jpeg) => {
            let pair = StoredPair { jpeg, ..pair };
            if !is_for_people(&headers) {
                return Json(pair_json(&pair)).into_response();
            }
            page(views::pair(&link::host_name(), &pair, visitor(&app, &headers)))
        }
    }
}

async fn small(headers: &HeaderMap, jpeg: Vec<u8>) -> Response {
    match tokio::task::spawn_blocking(move || pictures::small(&jpeg)).await {
        Ok(Ok(small)) => picture(small, FOR_GOOD),
        Ok(Err(error)) => refuse(headers, StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        Err(_) => refuse(headers, StatusCode::INTERNAL_SERVER_ERROR, "the picture cannot be made smaller"),
    }
}

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    q: String,
}

pub(super) async fn search(State(app): Shared, headers: HeaderMap, Query(wanted): Query<Wanted>) -> Response {
    let text = wanted.q.trim().to_owned();
    if text.is_empty() || text.len() > MAX_QUERY {
        return refuse(&headers, StatusCode::UNPROCESSABLE_ENTITY, "search by a text of 1 to 256 bytes");
    }
    let embedded = app.outside.ask(|answer| Request::Embed { text: text.clone(), answer }).await;
    // Without the model's word a search goes by words.
    let (vector, hint) = match embedded {
        Ok(vector) => (vector, None),
        Err(refusal) => (None, Some(refusal.to_string())),
    };
    let query = text.clone();
    let searched = read(&app, move |reader| {
        let found = search::find(reader, &query, vector.as_ref(), PAGE)?;
        let pairs = reader.get_many(&found.pairs)?.into_iter().flatten().collect::<Vec<_>>();
        Ok((found, pairs))
    });
    let (found, pairs) = match searched.await {
        Ok(found) => found,
        Err(error) => return failed(&headers, &error),
    };
    let hint = hint.map_or_else(String::new, |hint| format!(" ({hint})"));
    let note =
        format!("Of {} pairs {} by their pictures, the others by their words{hint}.", found.searched, found.compared);
    if !is_for_people(&headers) {
        let pairs: Vec<Value> = pairs.iter().map(pair_json).collect();
        let counts = json!({ "pairs": pairs, "searched": found.searched, "compared": found.compared });
        return Json(counts).into_response();
    }
    let (name, visitor) = (link::host_name(), visitor(&app, &headers));
    let here = format!("/search?q={}", escaped(&text));
    page(List { name: &name, pairs: &pairs, query: Some(&text), note: &note, next: None, here: &here, visitor }.page())
}

/// A text as it stands in an address.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(super) async fn state(State(app): Shared) -> Response {
    let way_home = app.way_home.clone();
    let read = read(&app, move |reader| Ok((reader.counts()?, Status::read(&way_home)))).await.ok();
    let (counts, way_home) = read.unzip();
    let health = app.outside.health().map_or_else(|| json!({ "status": "starting" }), |health| health.json());
    let look = app.outside.look().map(|look| look.json());
    let counts = counts.map(|Counts { kept, rejected, human, unsynced, bytes }| {
        json!({ "kept": kept, "rejected": rejected, "human": human, "unsynced": unsynced, "bytes": bytes })
    });
    Json(json!({ "health": health, "look": look, "store": counts, "sync": way_home })).into_response()
}

/// The part of the first page that says how the board does, for its script.
pub(super) async fn health(State(app): Shared) -> Response {
    page(views::health(app.outside.health().as_deref()))
}

/// The part of the first page with the last picture's texts.
pub(super) async fn scores(State(app): Shared) -> Response {
    page(views::scores(app.outside.look().as_deref().map_or(&[], |look| &look.texts)))
}

pub(super) async fn metrics(State(app): Shared) -> Response {
    let counts = read(&app, Reader::counts).await.ok();
    let text = metrics::metrics(app.outside.health().as_deref(), counts.as_ref());
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

pub(super) async fn look(State(app): Shared, headers: HeaderMap) -> Response {
    match app.outside.look() {
        Some(look) => picture(look.jpeg.clone(), "no-store"),
        None => refuse(&headers, StatusCode::NOT_FOUND, "nothing has been looked at yet"),
    }
}

pub(super) async fn live(State(app): Shared, headers: HeaderMap) -> Response {
    match seen(&app.outside) {
        Some(jpeg) => picture(jpeg, "no-store"),
        None => refuse(&headers, StatusCode::NOT_FOUND, "the camera has shown nothing yet"),
    }
}

/// What the camera sees; before the first live picture, what was looked at last.
fn seen(outside: &Outside) -> Option<Vec<u8>> {
    outside.view().map(|view| view.to_vec()).or_else(|| Some(outside.look()?.jpeg.clone()))
}

pub(super) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("page.css")).into_response()
}

pub(super) async fn script() -> Response {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], include_str!("page.js")).into_response()
}

pub(super) async fn icon() -> Response {
    ([(header::CONTENT_TYPE, "image/svg+xml")], include_str!("icon.svg")).into_response()
}

pub(super) async fn nothing(headers: HeaderMap) -> Response {
    refuse(&headers, StatusCode::NOT_FOUND, "there is no such page")
}

/// The newest of those pairs, and the last of them if there may be more.
fn newest(reader: &Reader, filter: Filter) -> Result<(Vec<StoredPair>, Option<PairId>), StoreError> {
    let entries = reader.list(Filter { order: Order::NewestFirst, ..filter })?;
    let ids: Vec<PairId> = entries.iter().map(|entry| entry.id).collect();
    let last = ids.last().copied().filter(|_| ids.len() == filter.limit);
    // Those that are gone or damaged meanwhile are not shown.
    Ok((reader.get_many(&ids)?.into_iter().flatten().collect(), last))
}

/// Reads the store where waiting keeps nobody else waiting.
async fn read<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&Reader) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let reader = app.reader.clone();
    let done = tokio::task::spawn_blocking(move || work(&reader)).await;
    done.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn pair_json(pair: &StoredPair) -> Value {
    let facts = &pair.facts;
    let state = if pair.state() == PairState::Kept { "kept" } else { "rejected" };
    json!({
        "pair": facts.id, "state": state, "texts": pair.texts().iter().map(text_json).collect::<Vec<_>>(),
        "all_texts": facts.texts.iter().map(text_json).collect::<Vec<_>>(), "labels": pair.labels, "taken": facts.taken,
        "camera": facts.sensor.camera, "trigger": facts.sensor.trigger, "place": facts.place, "bundle": facts.bundle,
        "picture": pair.jpeg.as_ref().map(|_| format!("/pairs/{}.jpg", facts.id)),
    })
}

fn visitor(app: &App, headers: &HeaderMap) -> Visitor {
    if guard::has_session(app, headers) { Visitor::Labels } else { Visitor::Looks }
}

fn failed(headers: &HeaderMap, error: &StoreError) -> Response {
    refuse(headers, StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}

fn page(markup: Markup) -> Response {
    Html(markup.into_string()).into_response()
}

fn picture(jpeg: Vec<u8>, caching: &'static str) -> Response {
    let mut response = ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    response
}
