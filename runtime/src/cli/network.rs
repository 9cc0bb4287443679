//! The thread that serves the page and speaks to the broker, beside a board that runs.

use anyhow::{Context, Result};
use edgeblip::face::Outside;
use edgeblip::mqtt::Speaker;
use edgeblip::page::{Page, Parts};
use field::config::Config;

/// Threads that read the store for the page, at most: a reader has each database open for a moment.
const READERS: usize = 2;

/// Starts the thread. A page that cannot be served is told in the log, and the board goes on without.
///
/// # Errors
/// A configuration that names no broker where it says one; no thread.
pub(super) fn start(config: &Config, outside: Outside) -> Result<()> {
    let speaker = Speaker::new(&config.mqtt, outside.clone())?;
    let page = page(config, outside);
    if page.is_none() && speaker.is_none() {
        return Ok(());
    }
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime =
        runtime.enable_all().max_blocking_threads(READERS).build().context("starting the network's thread")?;
    let work = async move {
        let serve = async {
            if let Some(page) = page
                && let Err(error) = page.serve().await
            {
                log::error!(error:% = error; "there is no page");
            }
        };
        let speak = async {
            if let Some(speaker) = speaker {
                speaker.speak().await;
            }
        };
        tokio::join!(serve, speak);
    };
    let thread = std::thread::Builder::new().name("network".to_owned());
    thread.spawn(move || runtime.block_on(work)).context("starting the network's thread")?;
    Ok(())
}

fn page(config: &Config, outside: Outside) -> Option<Page> {
    let address = config.page.address?;
    let store = &config.store.folder;
    let name = config.page.name.clone();
    // The store makes its folder too, but later.
    let made = std::fs::create_dir_all(store).map_err(anyhow::Error::from);
    let page = made.and_then(|()| Ok(Page::new(Parts { address, name, store, outside })?));
    page.inspect_err(|error| log::error!(error:% = error; "there is no page")).ok()
}
