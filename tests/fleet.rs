//! Many boards and one host: `cargo bench -p edgeblip-tests --bench fleet -- BOARDS PAIRS` (pairs of each board).
//!
//! The host is `edgeblip-trainer serve` with its inbox; boards are keys, shards and receipts, without a store of their own. Every pair must be
//! in the host's book once, and every receipt must be the host's and name every pair as safe. Then it says how long requests took, how much memory the
//! host had from its first tenth to its last, and how boards spread when a host that was away comes back.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use blip::caption::{Caption, Origin};
use blip::pixels::Rgb8;
use exchange::{
    DeviceName, Digest, EnrolmentRequest, Packer, PublicKey, Receipt, SecretKey, Statement, Verdict, signed,
};
use host::Home;
use host::devices::{Approval, new_credentials};
use objects::{Objects, Options, Remote};
use picture::{JpegQuality, encode_jpeg};
use serde_json::Value;
use store::{Decision, Original, PairFacts, Sensor, Stamp, Text};
use sync::Moment;

/// Boards that are at work at once.
const AT_ONCE: usize = 8;
/// How long the host may take for a receipt.
const PATIENCE: Duration = Duration::from_secs(600);

struct Served {
    child: Child,
    address: String,
}

impl Served {
    fn start(folder: &Path) -> Result<Served> {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/edgeblip-trainer");
        ensure!(program.is_file(), "{} is not there: cargo build --release --workspace", program.display());
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--page", "127.0.0.1:0", "--every", "1", "--json", "--host"]);
        let mut child = command.arg(folder).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let first: Value = serde_json::from_str(&lines.next().context("a first line")??)?;
        std::thread::spawn(move || lines.for_each(drop));
        let address = first["listen"].as_str().context("an address")?.to_owned();
        Ok(Served { child, address })
    }

    /// Resident memory, in KiB.
    fn memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has ended already where something went wrong.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Board {
    name: DeviceName,
    options: Options,
}

/// A pair of a board's, with one of a few small pictures.
fn pair(board: usize, number: u64, jpeg: &[u8]) -> Result<Original> {
    let caption = |text: String| Caption::new(text).context("a plain text");
    let words = caption(format!("a cat, number {number} of board {board}"))?;
    let text = Text {
        words,
        origin: Origin::Caption,
        itm: Some(0.9),
        itc: Some(0.3),
        log_prob: None,
        decision: Decision::Kept,
        model: None,
    };
    let sensor = Sensor {
        camera: caption("test".to_owned())?,
        trigger: caption("interval".to_owned())?,
        exposure_us: None,
        temperature_c: None,
        throttled: None,
    };
    let facts = PairFacts {
        id: format!("1-{}", number + 1).parse()?,
        boot_id: caption(format!("boot of {board}"))?,
        jpeg_bytes: jpeg.len() as u64,
        texts: vec![text],
        sensor,
        place: None,
        taken: Stamp::default(),
        bundle: None,
        vector: None,
    };
    let bytes = serde_json::to_vec(&facts)?;
    let sha256 = store::pair_hash(&bytes, jpeg);
    Ok(Original { id: facts.id, sha256, facts: bytes, jpeg: jpeg.to_vec(), labels: Vec::new() })
}

fn pictures() -> Result<Vec<Vec<u8>>> {
    let quality = JpegQuality::new(50)?;
    let picture = |number: usize| -> Result<Vec<u8>> {
        let pixels = (0..8 * 8 * 3).map(|place| (place * (number + 3) % 251) as u8).collect();
        Ok(encode_jpeg(&Rgb8::new(8, 8, pixels)?, quality)?)
    };
    (0..16).map(picture).collect()
}

/// Lets boards in, as an operator does.
fn let_in(folder: &Path, boards: usize) -> Result<(Vec<DeviceName>, Vec<exchange::Credentials>, PublicKey)> {
    let mut home = Home::open(folder)?;
    let (mut names, mut keys) = (Vec::new(), Vec::new());
    for number in 0..boards {
        let key = SecretKey::generate()?;
        let name: DeviceName = format!("board-{number}").parse()?;
        let (board, version) = (Caption::new("a board")?, Caption::new("0.1.0")?);
        let request = EnrolmentRequest { key: key.public(), name: name.clone(), board, version };
        let credentials = new_credentials()?;
        let approval = Approval { credentials: Some(credentials.clone()), ..Approval::default() };
        home.approve(&signed::sign(&request, &[&key]), approval)?;
        names.push(name);
        keys.push(credentials);
    }
    Ok((names, keys, home.key()))
}

/// Shards with their numbers of pairs, and how long each PUT took.
#[derive(Default)]
struct SentShards {
    shards: Vec<(Digest, usize)>,
    times: Vec<Duration>,
}

/// Sends a board's pairs, a shard after the other.
fn send(number: usize, board: &Board, url: &str, pairs: u64, jpegs: &[Vec<u8>]) -> Result<SentShards> {
    let mut remote = Objects::open(url, &board.options)?;
    let mut sent = SentShards::default();
    let mut next = 0;
    while next < pairs {
        let mut packer = Packer::new();
        let mut count = 0;
        while next < pairs && count < 250 {
            packer.add(&pair(number, next, &jpegs[next as usize % jpegs.len()])?)?;
            (next, count) = (next + 1, count + 1);
        }
        let shard = packer.finish().context("a shard")?;
        let began = Instant::now();
        remote.put(&board.name.shard(shard.digest), &shard.bytes)?;
        sent.times.push(began.elapsed());
        sent.shards.push((shard.digest, count));
    }
    Ok(sent)
}

/// Waits for a board's receipts, and reads them.
fn hear(board: &Board, url: &str, shards: &[(Digest, usize)], host: PublicKey) -> Result<()> {
    let mut remote = Objects::open(url, &board.options)?;
    let began = Instant::now();
    for (shard, pairs) in shards {
        let bytes = loop {
            if let Some(bytes) = remote.get(&board.name.receipt(*shard), Receipt::MAX_BYTES)? {
                break bytes;
            }
            ensure!(began.elapsed() < PATIENCE, "no receipt");
            std::thread::sleep(Duration::from_millis(100));
        };
        let receipt: Receipt = signed::open(&bytes, &[host])?;
        let safe = receipt.lines.iter().filter(|line| line.verdict == Verdict::Safe).count();
        ensure!(receipt.device == board.name && receipt.shard == *shard && safe == *pairs, "{receipt:?}");
    }
    Ok(())
}

/// How many of so many boards try in the busiest second, and in how many seconds all have tried, after a host was away.
fn herd(boards: u64, away_s: u64) -> (usize, u64) {
    let mut tries: BTreeMap<u64, usize> = BTreeMap::new();
    let mut last = 0;
    for board in 0..boards {
        let mut backoff = sync::Backoff::default();
        let (mut at_ms, mut drawn) = (0_u64, board);
        while at_ms < away_s * 1000 {
            drawn = drawn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let now = Moment { boot: String::new(), since_boot: Duration::from_millis(at_ms), wall_s: 0 };
            let wait = backoff.fail(&now, None, (drawn >> 33) as f64 / (1_u64 << 31) as f64);
            at_ms += u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        }
        let after_s = at_ms / 1000 - away_s;
        *tries.entry(after_s).or_default() += 1;
        last = last.max(after_s);
    }
    (tries.values().copied().max().unwrap_or(0), last)
}

fn main() -> Result<()> {
    let numbers: Vec<u64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let (count, pairs) = match numbers[..] {
        [boards, pairs] => (usize::try_from(boards)?, pairs),
        _ => (20, 100),
    };
    let place = tempfile::tempdir()?;
    let folder = place.path().join("host");
    let served = Served::start(&folder)?;
    let (names, keys, host) = let_in(&folder, count)?;
    let url = format!("s3://home?endpoint=http://{}", served.address);
    let board =
        |(name, credentials)| Board { name, options: Options { credentials: Some(credentials), ..Options::default() } };
    let boards: Vec<Board> = names.into_iter().zip(keys).map(board).collect();
    let jpegs = pictures()?;
    let (next, times, memory) = (AtomicUsize::new(0), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let began = Instant::now();
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(board) = boards.get(number) else { return Ok(()) };
            let SentShards { shards, times: took } = send(number, board, &url, pairs, &jpegs)?;
            hear(board, &url, &shards, host)?;
            times.lock().expect("nobody panics with it").extend(took);
            memory.lock().expect("nobody panics with it").push(served.memory_kib()?);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("it returns its errors"))
    })?;
    let seconds = began.elapsed().as_secs_f64();
    let book = rusqlite::Connection::open(folder.join("inbox.db"))?;
    let sql = "SELECT count(*), count(DISTINCT sha256), count(DISTINCT device) FROM pairs";
    let found: (u64, u64, usize) = book.query_row(sql, [], |row| {
        Ok((row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64, row.get::<_, i64>(2)? as usize))
    })?;
    let all = pairs * count as u64;
    ensure!(found == (all, all, count), "{found:?} of {all}");
    let mut times = times.into_inner().expect("nobody panics with it");
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    let memory = memory.into_inner().expect("nobody panics with it");
    let tenth = memory.len().div_ceil(10);
    let most = |part: &[u64]| part.iter().max().copied().unwrap_or(0) >> 10;
    println!("{count} boards, {all} pairs: each is there once, and every receipt is right");
    println!("{seconds:.0} s, {:.0} pairs a second from PUT to receipt", all as f64 / seconds);
    println!("PUT of a shard: median {:.0} ms, 99 % {:.0} ms, most {:.0} ms", at(50), at(99), at(100));
    println!(
        "host's memory: {} MiB in the first tenth, {} MiB in the last",
        most(&memory[..tenth]),
        most(&memory[memory.len() - tenth..])
    );
    for away_s in [60, 600, 86_400] {
        let (busiest, last) = herd(1000, away_s);
        println!(
            "1000 boards after {away_s} s without a host: {busiest} tries in the busiest second, all within {last} s"
        );
    }
    Ok(())
}
