//! `serve`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use axum::Router;
use clap::Args;
use desk::Desk;
use host::now_s;
use host::{Home, PublishError, Releases};
use objects::Objects;
use serde_json::json;
use server::{Access, Counters, Folder, Limits, Listener, Place, Stop, certificate};
use terminal::explained;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tokio::sync::watch::Sender;
use tokio::time::timeout;

use super::inbox::{Taker, tell_faults, tell_shards};
use super::source::Source;

/// How long the inbox may go on when the host stops.
const LAST: Duration = Duration::from_secs(10);

/// Be the host: the place where boards put pairs and find receipts and releases, the inbox, and the operator's page.
#[derive(Args)]
pub struct Serve {
    /// The host's folder; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    host: PathBuf,
    /// Where boards reach it. Beyond this machine it needs a certificate
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: SocketAddr,
    /// Certificate chain in PEM
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// The certificate's key in PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Listen beyond this machine without a certificate, as behind a proxy that has one: whoever is on the way sees every
    /// picture
    #[arg(long, conflicts_with = "certificate")]
    plain: bool,
    /// Where the operator's page and the metrics are, for this machine alone
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    page: SocketAddr,
    /// Another place, as an S3 cluster, in this host's stead: this program then takes in what is there, and listens for
    /// no board
    #[command(flatten)]
    source: Source,
    /// Look for shards at least every so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    every: u32,
    /// Most MiB of one board's that wait to be taken in
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    waiting_mib: u32,
    /// Most MiB that one board may send in a day, UTC
    #[arg(long, value_name = "MIB")]
    day_mib: Option<u32>,
    /// MiB of the disk that stay free
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    keep_free_mib: u32,
    /// Where the page's "Back up now" copies the host to
    #[arg(long, value_name = "DIR")]
    backup: Option<PathBuf>,
    /// Print JSON: first where it listens, and then one object a look that found something
    #[arg(long)]
    json: bool,
}

/// What the host listens at.
struct Listening {
    place: Option<(Listener, Place, Access)>,
    page: Listener,
    router: Router,
    counters: Counters,
    /// What says that it is time to stop.
    signals: [Signal; 2],
}

impl Serve {
    pub fn run(self) -> Result<()> {
        ensure!(
            self.page.ip().is_loopback(),
            "--page {}: the page knows no passwords and is for this machine alone; reach it through SSH",
            self.page
        );
        let is_far = !self.listen.ip().is_loopback() && self.source.from.is_none();
        ensure!(
            !is_far || self.certificate.is_some() || self.plain,
            "--listen {}: without TLS whoever is on the way sees every picture: give --certificate and --key, or --plain behind a \
             proxy that has them",
            self.listen
        );
        let home = Home::open(&self.host)?;
        let objects = self.source.open(&home)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting")?;
        let (sayer, stop) = Stop::new();
        let arrived = Arc::new(Notify::new());
        let listening = runtime.block_on(self.listen(&arrived, &stop))?;
        self.tell_addresses(listening.place.as_ref().map(|(listener, ..)| listener), &listening.page)?;
        let taken_in = take_in(Taker::new(home, objects)?, arrived, stop, self.every(), self.json);
        let served = runtime.block_on(serve(listening, taken_in, &sayer));
        // A shard that is just being taken in is taken in again at the next start.
        runtime.shutdown_background();
        served
    }

    fn every(&self) -> Duration {
        Duration::from_secs(u64::from(self.every))
    }

    async fn listen(&self, arrived: &Arc<Notify>, stop: &Stop) -> Result<Listening> {
        let counters = Counters::default();
        let folder = Folder::open(&self.host).with_context(|| terminal::shown(&self.host))?;
        let place = match &self.source.from {
            Some(_) => None,
            None => {
                let tls = self.certificate.as_deref().zip(self.key.as_deref());
                let tls = tls.map(|(chain, key)| certificate(chain, key)).transpose()?;
                let mib = |mib: u32| u64::from(mib) << 20;
                let limits = Limits {
                    waiting_bytes: mib(self.waiting_mib),
                    day_bytes: self.day_mib.map(mib),
                    keep_free: mib(self.keep_free_mib),
                };
                let access = Access::open(&self.host, counters.clone())?;
                let place = Place::new(folder.clone(), limits, counters.clone(), Arc::clone(arrived));
                Some((Listener::bind(self.listen, tls, stop.clone()).await?, place, access))
            }
        };
        let page = Listener::bind(self.page, None, stop.clone()).await?;
        let desk = desk::router(Desk { host: self.host.clone(), backup: self.backup.clone() });
        let router = server::router(counters.clone(), folder).merge(desk);
        let hear = |kind| signal(kind).context("hearing signals");
        let signals = [hear(SignalKind::terminate())?, hear(SignalKind::interrupt())?];
        Ok(Listening { place, page, router, counters, signals })
    }

    fn tell_addresses(&self, place: Option<&Listener>, page: &Listener) -> Result<()> {
        let (place, page) = (place.map(Listener::address).transpose()?, page.address()?);
        if self.json {
            println!("{}", terminal::json(&json!({ "listen": place, "page": page }))?);
            return Ok(());
        }
        if let Some(place) = place {
            let scheme = if self.certificate.is_some() { "https" } else { "http" };
            println!(
                "boards: {scheme}://{place}  (let them in with \"edgeblip-trainer devices approve --served URL\")"
            );
        }
        println!("page:   http://{page}/");
        Ok(())
    }
}

/// Answers and takes in until a signal says that it is time to stop.
async fn serve(
    listening: Listening,
    taken_in: impl Future<Output = ()> + Send + 'static,
    sayer: &Sender<bool>,
) -> Result<()> {
    let Listening { place, page, router, counters, signals: [mut terminate, mut interrupt] } = listening;
    let taking = tokio::spawn(taken_in);
    let pages = tokio::spawn(page.serve_page(router));
    let places = place.map(|(listener, place, access)| tokio::spawn(listener.serve_place(place, access, counters)));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Whoever listens for it is gone only if it has ended.
    let _ = sayer.send(true);
    let ended = timeout(LAST, taking);
    for task in [Some(pages), places].into_iter().flatten() {
        task.await.context("stopping")?;
    }
    // It may be stopped anywhere, and has had its time.
    ended.await.unwrap_or(Ok(())).context("stopping")
}

/// Takes in what arrives, and keeps the word about the newest release fresh, until it is time to stop.
async fn take_in(mut taker: Taker, arrived: Arc<Notify>, stop: Stop, every: Duration, as_json: bool) {
    let mut stop = std::pin::pin!(stop.wait());
    let (mut away, mut stale) =
        (Trouble::of("shards are not taken in"), Trouble::of("the word about the newest release is not renewed"));
    loop {
        let looked = tokio::task::spawn_blocking(move || {
            away.tell(look(&mut taker, as_json));
            stale.tell(keep_fresh(&taker.home, &mut taker.objects));
            (taker, away, stale)
        });
        (taker, away, stale) = match looked.await {
            Ok(kept) => kept,
            Err(error) => {
                eprintln!("edgeblip-trainer: taking in has ended: {error}");
                return;
            }
        };
        tokio::select! {
            () = arrived.notified() => {}
            () = tokio::time::sleep(every) => {}
            () = &mut stop => break,
        }
    }
    // It has a runtime of its own, which must not end within this one; so that it ends is all that is waited for.
    let _ = tokio::task::spawn_blocking(move || drop(taker)).await;
}

/// Takes in what is there. The next look may find a place that has come back, or a disk with room.
fn look(taker: &mut Taker, as_json: bool) -> Result<()> {
    let summary = taker.look()?;
    if summary.shards + summary.broken == 0 {
        return Ok(());
    }
    if as_json {
        println!("{}", terminal::json(&summary)?);
    } else {
        tell_shards(&summary);
        tell_faults(&summary);
    }
    Ok(())
}

/// Says once what is wrong, and again when something else is.
struct Trouble {
    what: &'static str,
    said: Option<String>,
}

impl Trouble {
    fn of(what: &'static str) -> Trouble {
        Trouble { what, said: None }
    }

    fn tell(&mut self, done: Result<()>) {
        let words = done.err().map(|error| explained(error.as_ref()));
        if let Some(words) = words.as_ref().filter(|words| self.said.as_ref() != Some(*words)) {
            eprintln!("edgeblip-trainer: {}: {words}", self.what);
        }
        self.said = words;
    }
}

fn keep_fresh(home: &Home, objects: &mut Objects) -> Result<()> {
    match Releases::open(home, objects) {
        // Its operator is at it: the next look does it.
        Err(PublishError::Busy) => Ok(()),
        releases => Ok(releases?.keep_fresh(now_s()).map(drop)?),
    }
}
