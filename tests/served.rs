//! Boards and the host's own place, `edgeblip-trainer serve`, over networks that fail.
//!
//! `EDGEBLIP_LONG=1` takes 300 networks instead of 8.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use exchange::Digest;
use serde_json::Value;

use crate::boards::{Board, Host, ask_to_stop, scene, text};
use crate::command_line::{finish, program};
use crate::fault_proxy::{Fault, FaultProxy};

/// How long anything may take that takes moments.
const PATIENCE: Duration = Duration::from_secs(60);

/// A host that is running.
struct Served {
    child: Child,
    place: SocketAddr,
    page: SocketAddr,
}

impl Served {
    /// Starts a host at an address; port 0 is any.
    fn start(host: &Host, listen: &str, more: &[&str]) -> Result<Served> {
        let folder = text(&host.folder);
        let mut command = Command::new(program("edgeblip-trainer")?);
        command.args([
            "serve",
            "--host",
            &folder,
            "--listen",
            listen,
            "--page",
            "127.0.0.1:0",
            "--every",
            "1",
            "--json",
        ]);
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let out = child.stdout.take().context("its output")?;
        let mut lines = BufReader::new(out).lines();
        let first: Value = serde_json::from_str(&lines.next().context("a first line")??)?;
        // Nobody reads the rest, and it must not wait for anybody.
        std::thread::spawn(move || lines.for_each(drop));
        let address = |name: &str| -> Result<SocketAddr> {
            Ok(first[name].as_str().with_context(|| format!("{name} in {first}"))?.parse()?)
        };
        Ok(Served { place: address("listen")?, page: address("page")?, child })
    }

    fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to stop, and waits until it has.
    fn stop(mut self) -> Result<i32> {
        ask_to_stop(&self.child)?;
        self.child.wait()?.code().context("it ended by a signal")
    }

    /// A request to its page: status and body.
    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.page)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}",
            self.page
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, answer))
    }

    fn form(&self, path: &str, body: &str) -> Result<(u16, String)> {
        self.ask("POST", path, "Content-Type: application/x-www-form-urlencoded\r\n", body)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets a board in at an address.
fn let_in(board: &Board, host: &Host, address: SocketAddr) -> Result<()> {
    let (request, grant) = (text(&board.folder.join("request")), text(&board.folder.join("grant")));
    board.say(&["enrol", "--out", &request, "--name", "garden"])?;
    let served = format!("http://{address}");
    host.say(&["devices", "approve"], &[&request, "--out", &grant, "--served", &served])?;
    board.say(&["enrol", "--grant", &grant])?;
    Ok(())
}

/// Syncs until everything is at home.
fn bring_home(board: &Board) -> Result<()> {
    let since = Instant::now();
    loop {
        let met = board.sync()?;
        if met["state"] == "idle" {
            return Ok(());
        }
        ensure!(since.elapsed() < PATIENCE, "it is not at home: {met}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// That all of a board's pairs are at the host, each once, and none is let go too early.
fn check(board: &Board, host: &Host, pairs: usize) -> Result<()> {
    let mut known: Vec<Digest> = host.pairs()?.into_iter().map(|(_, hash, _)| hash).collect();
    let mut kept: Vec<Digest> = board.hashes()?.into_values().collect();
    known.sort_unstable();
    kept.sort_unstable();
    ensure!(kept.len() == pairs && known == kept, "{} kept, {} at home, of {pairs}", kept.len(), known.len());
    ensure!(board.listed()?.values().all(|is_home| *is_home), "everything has its receipt");
    host.check_shelf()
}

#[test]
fn a_thousand_pairs_go_through_the_host_itself() -> Result<()> {
    let (_place, board, host) = scene()?;
    let served = Served::start(&host, "127.0.0.1:0", &[])?;
    let_in(&board, &host, served.place)?;
    board.keep(0..1000, "a cat")?;
    bring_home(&board)?;
    check(&board, &host, 1000)?;
    let (status, metrics) = served.ask("GET", "/metrics", "", "")?;
    ensure!(status == 200 && metrics.contains("edgeblip_host"), "{metrics}");
    ensure!(served.stop()? == 0);
    Ok(())
}

#[test]
fn nothing_is_lost_in_a_network_that_does_everything_wrong() -> Result<()> {
    let networks = if std::env::var_os("EDGEBLIP_LONG").is_some() { 300 } else { 8 };
    let mut met: Vec<Fault> = Vec::new();
    for seed in 0..networks {
        met.extend(survive(seed).with_context(|| format!("network {seed}"))?);
    }
    met.sort_unstable();
    met.dedup();
    ensure!(met.len() >= 12, "only {met:?} happened");
    Ok(())
}

/// A board and a host, both killed now and then, and what is between them.
fn survive(seed: u64) -> Result<Vec<Fault>> {
    let (_place, board, host) = scene()?;
    let mut served = Served::start(&host, "127.0.0.1:0", &[])?;
    let address = served.place;
    let proxy = FaultProxy::before(address, seed)?;
    let_in(&board, &host, proxy.address())?;
    let store = text(&board.folder.join("pairs"));
    let config = board.folder.join("hasty.toml");
    std::fs::write(&config, "[sync]\npatience_s = 0\n")?;
    let mut pairs = 0;
    for round in 0..6_u64 {
        board.keep(pairs..pairs + 5, "a cat")?;
        pairs += 5;
        let before = board.listed()?;
        let mut command = Command::new(program("edgeblip")?);
        command.args(["sync", "--now", "--store", &store, "--config", &text(&config)]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        match (seed + round) % 3 {
            0 => {
                std::thread::sleep(Duration::from_millis(seed * 29 % 200 + round * 17));
                child.kill()?;
            }
            1 => {
                std::thread::sleep(Duration::from_millis(seed * 31 % 150 + round * 13));
                served.kill()?;
                served = Served::start(&host, &address.to_string(), &[])?;
            }
            _ => {}
        }
        child.wait()?;
        let known: Vec<Digest> = host.pairs()?.into_iter().map(|(_, hash, _)| hash).collect();
        let hashes = board.hashes()?;
        for (id, is_home) in board.listed()? {
            ensure!(!is_home || known.contains(&hashes[&id]), "{id} was let go, and is not at the host");
        }
        ensure!(before.keys().all(|id| hashes.contains_key(id)), "a pair is gone");
    }
    proxy.mend();
    bring_home(&board)?;
    check(&board, &host, usize::try_from(pairs)?)?;
    ensure!(served.stop()? == 0);
    Ok(proxy.met())
}

#[test]
fn a_board_that_is_let_in_no_more_keeps_all_until_it_is_again() -> Result<()> {
    let (_place, board, host) = scene()?;
    let served = Served::start(&host, "127.0.0.1:0", &[])?;
    let_in(&board, &host, served.place)?;
    board.keep(0..5, "a cat")?;
    bring_home(&board)?;
    let folder = text(&host.folder);
    let revoked =
        finish(Command::new(program("edgeblip-trainer")?).args(["devices", "revoke", "garden", "--host", &folder]))?;
    revoked.content()?;
    board.keep(5..10, "a dog")?;
    let refused = board.run(&["sync", "--now"])?;
    ensure!(refused.code == 1 && refused.out.contains("auth-needed"), "{}", refused.out);
    ensure!(board.listed()?.values().filter(|is_home| !**is_home).count() == 5, "nothing was let go");
    let_in(&board, &host, served.place)?;
    bring_home(&board)?;
    check(&board, &host, 10)
}

/// `faketime` of Debian stands for a clock without a battery.
#[test]
fn clocks_of_1970_and_2100_send_everything() -> Result<()> {
    let has_faketime = Command::new("faketime").arg("--version").output().is_ok();
    if !has_faketime {
        ensure!(std::env::var_os("EDGEBLIP_RIGS").is_none(), "faketime is not installed");
        eprintln!("left out: faketime is not installed");
        return Ok(());
    }
    let (_place, board, host) = scene()?;
    let served = Served::start(&host, "127.0.0.1:0", &[])?;
    let_in(&board, &host, served.place)?;
    let store = text(&board.folder.join("pairs"));
    let mut pairs = 0;
    for date in ["1970-01-02 00:00:00", "2100-01-01 00:00:00"] {
        board.keep(pairs..pairs + 5, "a cat")?;
        pairs += 5;
        let since = Instant::now();
        loop {
            let mut command = Command::new("faketime");
            command.arg(date).arg(program("edgeblip")?).args(["sync", "--now", "--json", "--store", &store]);
            let state = finish(&mut command)?.json()?.remove(0);
            if state["state"] == "idle" {
                break;
            }
            ensure!(since.elapsed() < PATIENCE, "{date}: {state}");
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    check(&board, &host, 10)
}

#[test]
fn the_host_s_page_shows_and_decides_for_its_operator_alone() -> Result<()> {
    let (_place, board, host) = scene()?;
    let served = Served::start(&host, "127.0.0.1:0", &[])?;
    let_in(&board, &host, served.place)?;
    board.keep(0..3, "a <script>alert(1)</script> cat")?;
    bring_home(&board)?;
    let (status, first) = served.ask("GET", "/", "", "")?;
    ensure!(status == 200 && first.contains("garden") && !first.contains("<script"), "{first}");
    ensure!(first.contains("content-security-policy: default-src 'none'"), "{first}");
    let pairs = host.pairs()?;
    let [one, two, _] = &pairs[..] else { bail!("{pairs:?}") };
    let (one, two) = (one.1, two.1);
    let (status, picture) = served.ask("GET", &format!("/pairs/{one}/picture"), "", "")?;
    ensure!(status == 200 && picture.contains("image/jpeg"));
    let label = format!("/pairs/{one}/label");
    ensure!(served.form(&label, "action=rewrite&text=a+grey+cat")?.0 == 303);
    ensure!(served.ask("GET", &format!("/pairs/{one}"), "", "")?.1.contains("a grey cat"));
    ensure!(served.form(&label, "action=rewrite&text=%07")?.0 == 400, "no text has control characters");
    ensure!(served.form(&label, "action=shout")?.0 == 400);
    // Another site's page, and another name.
    let foreign = "Origin: http://example.org\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    ensure!(served.ask("POST", &label, foreign, "action=reject")?.0 == 403);
    let mut stream = TcpStream::connect(served.page)?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    ensure!(answer.contains("421"), "{answer}");
    // What is deleted is nowhere, and does not come back.
    ensure!(served.form(&format!("/pairs/{two}/delete"), "")?.0 == 200);
    ensure!(served.ask("GET", &format!("/pairs/{two}"), "", "")?.0 == 404);
    ensure!(served.form("/devices/garden/delete", "name=shed")?.0 == 400);
    ensure!(served.form("/devices/garden/delete", "name=garden")?.0 == 200);
    ensure!(host.pairs()?.is_empty());
    ensure!(served.form("/retention", "days=0")?.0 == 400);
    ensure!(served.form("/retention", "days=30")?.0 == 200);
    Ok(())
}
