//! The board's page: what it sees and keeps, for people with a browser and for programs.
//!
//! Served with what is built in alone, readable without JavaScript, escaped throughout. On the board itself everybody may
//! read; whatever changes something takes a token, and so does reading where the page listens beyond the board. See
//! [`keys`] for tokens.
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | the last picture with its texts, the last pairs, how the board does |
//! | `GET /pairs`, `/pairs/ID`, `/pairs/ID.jpg` | what is kept; JSON for `Accept: application/json` |
//! | `GET /search?q=TEXT` | pairs whose pictures are like a text |
//! | `GET /look.jpg`, `/live.jpg` | the last picture that was looked at; what the camera sees |
//! | `GET /state` | how the board does, and the last look, as JSON |
//! | `GET /metrics` | the same for Prometheus |
//! | `POST /caption` | a picture file's captions as JSON; it is not kept |
//! | `POST /take` | takes a frame now; a body is a text for it |
//! | `POST /pairs/ID/label` | `action=accept`, `reject`, `rewrite` or `add`, the last two with `text=...` |
//! | `GET /enter?link=TOKEN` | lets a browser in |

pub mod keys;
pub mod link;
mod views;
mod answers;
mod guard;
mod pictures;
mod search;
mod metrics;
mod reading;
mod asking;
mod serving;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use store::Reader;

use crate::face::Outside;
use guard::{Names, Readers};
use keys::{KeyError, KeyFile};

pub use serving::ServeError;

/// How long a link works.
pub const LINK: Duration = Duration::from_secs(15 * 60);
/// How long a browser stays in.
const SESSION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Largest picture that is captioned, in bytes.
const MAX_PICTURE: usize = 16 << 20;
/// Largest form, in bytes.
const MAX_FORM: usize = 16 << 10;

/// What a page is made of.
pub struct Parts<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// A further name for it.
    pub name: Option<String>,
    /// The store's folder.
    pub store: &'a Path,
    /// The board.
    pub outside: Outside,
}

/// What every request finds.
struct App {
    outside: Outside,
    reader: Reader,
    /// Where it is written how the way home is.
    way_home: PathBuf,
    keys: KeyFile,
    names: Names,
    readers: Readers,
}

type Shared = State<Arc<App>>;

/// A page that can be served.
pub struct Page {
    address: SocketAddr,
    app: Arc<App>,
}

impl Page {
    /// Makes the page's keys if there are none; links of an earlier run are worth nothing any more.
    ///
    /// # Errors
    /// A disk that takes nothing.
    pub fn new(parts: Parts<'_>) -> Result<Page, KeyError> {
        let keys = KeyFile::of(parts.store);
        keys.begin()?;
        let readers = if parts.address.ip().is_loopback() { Readers::All } else { Readers::Known };
        let names = Names { host: link::host_name(), further: parts.name };
        let app = App {
            outside: parts.outside,
            reader: Reader::new(parts.store),
            way_home: sync::folder_beside(parts.store),
            keys,
            names,
            readers,
        };
        Ok(Page { address: parts.address, app: Arc::new(app) })
    }

    /// Answers requests for ever.
    ///
    /// # Errors
    /// An address that cannot be listened at.
    pub async fn serve(self) -> Result<std::convert::Infallible, ServeError> {
        serving::serve(self.address, router(self.app)).await
    }
}

fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(reading::home))
        .route("/pairs", get(reading::pairs))
        .route("/pairs/{name}", get(reading::pair))
        .route("/search", get(reading::search))
        .route("/state", get(reading::state))
        .route("/parts/health", get(reading::health))
        .route("/parts/scores", get(reading::scores))
        .route("/metrics", get(reading::metrics))
        .route("/look.jpg", get(reading::look))
        .route("/live.jpg", get(reading::live))
        .route("/page.css", get(reading::style))
        .route("/page.js", get(reading::script))
        .route("/icon.svg", get(reading::icon))
        .route("/enter", get(asking::enter))
        .route("/take", post(asking::take))
        .route("/pairs/{name}/label", post(asking::label))
        .route("/caption", post(asking::caption).layer(DefaultBodyLimit::max(MAX_PICTURE)))
        .fallback(reading::nothing)
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(from_fn_with_state(Arc::clone(&app), guard::guard))
        .layer(from_fn(answers::with_policy))
        .with_state(app)
}
