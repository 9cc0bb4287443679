//! Requests that change nothing.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use host::releases::standing_of;
use host::{Home, HomePair, PairFilter, PairName};
use terminal::printable;

use crate::answers::{Refusal, page};
use crate::asked::Asked;
use crate::views::{self, Overview};
use crate::{Desk, Shared};

/// Pairs of a page.
const PAGE: usize = 24;
/// Pairs of the first page.
const ARRIVALS: usize = 8;

/// Does something with the host, off the threads that answer.
pub(crate) async fn with_home<T: Send + 'static>(
    desk: Arc<Desk>,
    work: impl FnOnce(&mut Home) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(move || work(&mut Home::open(&desk.host)?)).await;
    done.unwrap_or_else(|error| Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())))
}

pub(crate) async fn overview(State(desk): Shared) -> Result<Html<String>, Refusal> {
    let has_backup = desk.backup.is_some();
    let overview = with_home(desk, move |home| {
        Ok(Overview {
            devices: home.devices()?,
            arrivals: home.arrivals(ARRIVALS)?,
            versions: home.versions().map_err(|error| Refusal::of(StatusCode::INTERNAL_SERVER_ERROR, &error))?,
            released: standing_of(home)?,
            has_backup,
        })
    });
    Ok(page("Host", overview.await?.page()))
}

pub(crate) async fn pairs(State(desk): Shared, Query(asked): Query<Asked>) -> Result<Html<String>, Refusal> {
    let filter = asked.filter()?;
    let found = with_home(desk, move |home| Ok(home.pairs(&filter)?)).await?;
    let next = found.next.map(|after| asked.next(after));
    Ok(page("Pairs", views::pairs(&asked, &found.pairs, next)))
}

pub(crate) async fn pair(State(desk): Shared, Path(name): Path<String>) -> Result<Html<String>, Refusal> {
    let found = with_home(desk, move |home| found(home, &name)).await?;
    Ok(page("Pair", views::pair(&found)))
}

pub(crate) async fn picture(State(desk): Shared, Path(name): Path<String>) -> Result<Response, Refusal> {
    let picture = with_home(desk, move |home| {
        let pair = found(home, &name)?;
        home.picture(&pair)?.ok_or_else(|| Refusal::new(StatusCode::NOT_FOUND, "its texts alone came home"))
    });
    let headers = [(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, "private, max-age=3600")];
    Ok((headers, picture.await?).into_response())
}

pub(crate) async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("desk.css")).into_response()
}

pub(crate) fn found(home: &Home, name: &str) -> Result<HomePair, Refusal> {
    Ok(home.pair(&name.parse::<PairName>()?)?)
}

impl Asked {
    fn filter(&self) -> Result<PairFilter, Refusal> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let bad = |words: String| Refusal::new(StatusCode::BAD_REQUEST, words);
        let device = given(&self.device).map(|device| device.parse()).transpose();
        let device = device.map_err(|error: exchange::device::DeviceNameError| bad(error.to_string()))?;
        let state = match given(&self.state).as_deref() {
            None => None,
            Some("kept") => Some(store::State::Kept),
            Some("rejected") => Some(store::State::Rejected),
            Some(other) => return Err(bad(format!("state={}: kept or rejected", printable(other)))),
        };
        Ok(PairFilter { device, state, text: given(&self.text), after: self.after.unwrap_or(0), limit: PAGE })
    }
}
