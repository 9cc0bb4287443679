//! The host's page: what came home, and what its operator decides about it.
//!
//! It listens on the host alone, and whoever is there may decide: reach it from elsewhere through SSH, or through a proxy that knows people.
//! Served with what is built in alone, without a script, escaped throughout.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | boards, the last arrivals, releases, datasets |
//! | `GET /pairs?device=&state=&text=&after=` | pairs, a page at a time |
//! | `GET /pairs/SHA256`, `/pairs/SHA256/picture` | one, and its picture |
//! | `POST /pairs/SHA256/label` | `action=accept`, `reject`, or `rewrite` with `text=...` |
//! | `POST /pairs/SHA256/delete` | removes it everywhere |
//! | `POST /devices/NAME/revoke`, `/devices/NAME/delete` | lets a board in no more; removes all of its pairs, with `name=NAME` again |
//! | `POST /retention` | `days=N`: says what would go; with `go=yes` it goes |
//! | `POST /backup` | copies the host to where `--backup` says |

#![forbid(unsafe_code)]

mod asked;
mod views;
mod answers;
mod guard;
mod reading;
mod deciding;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::from_fn;
use axum::routing::{get, post};

/// Largest form, in bytes.
const MAX_FORM: usize = 16 << 10;

/// Whose page it is.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The host's folder.
    pub host: PathBuf,
    /// Where backups go, if the operator said so.
    pub backup: Option<PathBuf>,
}

type Shared = State<Arc<Desk>>;

/// The page, for a listener that only the host itself reaches.
pub fn router(desk: Desk) -> Router {
    Router::new()
        .route("/", get(reading::overview))
        .route("/pairs", get(reading::pairs))
        .route("/pairs/{name}", get(reading::pair))
        .route("/pairs/{name}/picture", get(reading::picture))
        .route("/desk.css", get(reading::style))
        .route("/pairs/{name}/label", post(deciding::label))
        .route("/pairs/{name}/delete", post(deciding::delete_pair))
        .route("/devices/{name}/revoke", post(deciding::revoke))
        .route("/devices/{name}/delete", post(deciding::delete_device))
        .route("/retention", post(deciding::retain))
        .route("/backup", post(deciding::back_up))
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(from_fn(guard::guard))
        .layer(from_fn(answers::with_policy))
        .with_state(Arc::new(desk))
}
