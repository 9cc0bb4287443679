//! `devices`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use exchange::{Credentials, DeviceName};
use host::devices::{Approval, new_credentials, read_request};
use host::{Home, Standing};
use serde_json::json;
use server::BUCKET;
use terminal::{printable, shown};

/// Boards that this host knows.
#[derive(Args)]
pub struct Devices {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// One line a board
    List(List),
    /// Let a board in that asked with "edgeblip enrol", and write the grant that it is to get
    Approve(Approve),
    /// Let a board in no more; what it has sent stays
    Revoke(Revoke),
}

#[derive(Args)]
struct Place {
    /// The host's folder; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    host: PathBuf,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct List {
    #[command(flatten)]
    place: Place,
}

#[derive(Args)]
struct Approve {
    #[command(flatten)]
    place: Place,
    /// The board's request
    request: PathBuf,
    /// File for the grant. It holds a password: hand it to nobody but the board
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Another name than the board would like
    #[arg(long)]
    name: Option<DeviceName>,
    /// Where its shards are to go: s3://BUCKET/FOLDER?endpoint=URL, https://HOST/FOLDER (WebDAV) or file:///FOLDER
    #[arg(long)]
    url: Option<String>,
    /// Address under which boards reach this host where "edgeblip-trainer serve" runs, as https://host.example:9000: the
    /// board gets a key of its own, and one that it had before opens nothing any more
    #[arg(long, value_name = "URL", conflicts_with_all = ["url", "user"])]
    served: Option<String>,
    /// Access key of S3, or user of WebDAV; its secret is read from EDGEBLIP_SECRET
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Region that S3 requests are signed for
    #[arg(long, requires = "user")]
    region: Option<String>,
}

#[derive(Args)]
struct Revoke {
    #[command(flatten)]
    place: Place,
    /// The board
    name: DeviceName,
}

impl Devices {
    pub fn run(self) -> Result<()> {
        match self.action {
            Action::List(list) => list.run(),
            Action::Approve(approve) => approve.run(),
            Action::Revoke(revoke) => {
                Home::open(&revoke.place.host)?.revoke(&revoke.name)?;
                println!("{} is let in no more", revoke.name);
                Ok(())
            }
        }
    }
}

impl List {
    fn run(self) -> Result<()> {
        for device in Home::open(&self.place.host)?.devices()? {
            let (name, fingerprint) = (&device.name, device.key.fingerprint());
            let standing = match device.standing {
                Standing::Active => "active",
                Standing::Revoked => "revoked",
            };
            if self.place.json {
                let row = json!({
                    "device": name, "key": fingerprint, "state": standing, "board": device.board, "version": device.version,
                    "since_s": device.since_s, "pairs": device.pairs, "bytes": device.bytes,
                });
                println!("{}", terminal::json(&row)?);
            } else {
                let (pairs, mebibytes) = (device.pairs, device.bytes >> 20);
                println!(
                    "{name}  {standing}  {fingerprint}  {pairs} pairs, {mebibytes} MiB  {}",
                    printable(&device.board)
                );
            }
        }
        Ok(())
    }
}

impl Approve {
    fn run(self) -> Result<()> {
        let bytes = read_small(&self.request)?;
        let request = read_request(&bytes).with_context(|| shown(&self.request))?;
        if let Some(served) = &self.served {
            let address =
                served.strip_prefix("https://").or_else(|| served.strip_prefix("http://")).unwrap_or_default();
            let address = address.trim_end_matches('/');
            let is_address = !address.is_empty() && !address.contains(['/', '?', '#', '&', '@', '%', ' ']);
            ensure!(is_address, "--served {served}: it is https://HOST:PORT, as boards reach this host");
        }
        let is_served = self.served.is_some();
        let credentials = match (self.user, &self.served) {
            (None, None) => None,
            (None, Some(_)) => Some(new_credentials()?),
            (Some(user), _) => {
                let secret =
                    std::env::var("EDGEBLIP_SECRET").context("EDGEBLIP_SECRET: set it to the secret of --user")?;
                Some(Credentials { user, secret, region: self.region })
            }
        };
        let mut home = Home::open(&self.place.host)?;
        let url =
            self.served.map(|served| format!("s3://{BUCKET}?endpoint={}", served.trim_end_matches('/'))).or(self.url);
        let approval = Approval { name: self.name, url, credentials, root: home.root()? };
        let (grant, bytes) = home.approve(&bytes, approval)?;
        write_secret(&self.out, &bytes)?;
        if self.place.json {
            let row = json!({
                "device": grant.device, "board": request.key.fingerprint(), "host": grant.host.fingerprint(),
                "grant": shown(&self.out),
            });
            println!("{}", terminal::json(&row)?);
            return Ok(());
        }
        println!("{} is let in; {} is its grant", grant.device, shown(&self.out));
        if is_served {
            println!("its access key is new: one that it had before opens nothing any more");
        }
        println!("the board's key  {}  as \"edgeblip enrol\" prints it there", request.key.fingerprint());
        println!("this host's key  {}  as the board will print it when it takes the grant", grant.host.fingerprint());
        Ok(())
    }
}

/// Far more than any request.
const MAX_REQUEST_BYTES: u64 = 1 << 20;

pub(super) fn read_small(path: &Path) -> Result<Vec<u8>> {
    let file = std::fs::metadata(path).with_context(|| shown(path))?;
    ensure!(file.len() <= MAX_REQUEST_BYTES, "{}: it is too long to be a board's request", shown(path));
    std::fs::read(path).with_context(|| shown(path))
}

pub(super) fn write_secret(path: &Path, bytes: &[u8]) -> Result<()> {
    use dataset::disk::{Existing, WholeFile};
    let written = (|| {
        let mut file = WholeFile::secret_beside(path)?;
        std::io::Write::write_all(&mut file, bytes)?;
        file.keep(Existing::Replace)
    })();
    written.with_context(|| shown(path))
}
