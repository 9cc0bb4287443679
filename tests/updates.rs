//! Releases as operators make them and boards take them: real programs, the built-in model, and models that are broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use exchange::Digest;
use serde_json::Value;

use crate::boards::{Board, Host, ask_to_stop, scene, text};
use crate::bundles::repository;
use crate::command_line::{finish, program};

const PATIENCE: Duration = Duration::from_secs(60);

fn trainer(arguments: &[&str]) -> Result<String> {
    Ok(finish(Command::new(program("edgeblip-trainer")?).args(arguments))?.content()?.to_owned())
}

/// A root with one key, which lets the host release for 90 days.
fn delegate(host: &Host, place: &Path, serial: &str) -> Result<()> {
    let path = |name: &str| text(&place.join(name));
    let (key, root, delegation, folder) =
        (path("root.key"), path("root.json"), path("delegation.json"), text(&host.folder));
    if !Path::new(&key).exists() {
        let member = trainer(&["root", "key", "--out", &key])?;
        trainer(&["root", "make", "--member", member.trim(), "--key", &key, "--out", &root])?;
        trainer(&["publish", "adopt", "--host", &folder, "--root", &root])?;
    }
    let status = host.say(&["publish", "status"], &[])?;
    let to = status["release_key"].as_str().context("a release key")?;
    trainer(&[
        "root",
        "delegate",
        "--root",
        &root,
        "--key",
        &key,
        "--to",
        to,
        "--serial",
        serial,
        "--class",
        "any",
        "--out",
        &delegation,
    ])?;
    trainer(&["publish", "adopt", "--host", &folder, "--delegation", &delegation])?;
    Ok(())
}

fn built_in() -> PathBuf {
    repository("models/built-in")
}

/// A copy of the built-in bundle with a file that is another, and a manifest that says so: signed, and bad.
fn changed(place: &Path, file: &str, change: impl Fn(&mut Vec<u8>)) -> Result<PathBuf> {
    let copy = place.join(format!("bundle-{}", fs::read_dir(place)?.count()));
    fs::create_dir(&copy)?;
    for entry in fs::read_dir(built_in())? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let mut bytes = fs::read(copy.join(file))?;
    change(&mut bytes);
    fs::write(copy.join(file), &bytes)?;
    let mut manifest: Value = serde_json::from_slice(&fs::read(copy.join("manifest.json"))?)?;
    manifest["files"][file]["sha256"] = Digest::of(&bytes).to_string().into();
    manifest["files"][file]["bytes"] = bytes.len().into();
    fs::write(copy.join("manifest.json"), serde_json::to_vec(&manifest)?)?;
    Ok(copy)
}

fn publish(host: &Host, bundle: &Path, more: &[&str]) -> Result<Value> {
    host.say(&["publish", "bundle"], &[&[text(bundle).as_str()], more].concat())
}

fn released(board: &Board) -> Result<Value> {
    Ok(board.sync()?["release"].clone())
}

fn listed(board: &Board) -> Result<Value> {
    board.say(&["bundle", "list"])
}

/// A service that runs, watching a folder.
struct Service(Child);

impl Service {
    fn start(board: &Board) -> Result<Service> {
        let pictures = board.folder.join("pictures");
        fs::create_dir_all(&pictures)?;
        let mut command = Command::new(program("edgeblip")?);
        command.args(["run", "--page", "none", "--camera", &format!("folder:{}", text(&pictures))]);
        command.args(["--store", &text(&board.folder.join("pairs"))]);
        let log = fs::File::create(board.folder.join("log"))?;
        Ok(Service(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?))
    }

    fn stop(mut self) -> Result<()> {
        ask_to_stop(&self.0)?;
        let ended = self.0.wait()?;
        ensure!(ended.success(), "{ended}");
        Ok(())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, board: &Board, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let since = Instant::now();
    loop {
        let now = listed(board)?;
        if is_so(&now) {
            return Ok(now);
        }
        let log = fs::read_to_string(board.folder.join("log")).unwrap_or_default();
        ensure!(since.elapsed() < PATIENCE, "{what}: {now}\n{log}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn enrolled() -> Result<(tempfile::TempDir, Board, Host)> {
    let (place, board, host) = scene()?;
    delegate(&host, place.path(), "1")?;
    board.enrol(&host, "garden")?;
    Ok((place, board, host))
}

#[test]
fn a_release_is_tried_kept_and_reported_while_the_service_runs() -> Result<()> {
    let (place, board, host) = enrolled()?;
    ensure!(released(&board)?["state"] == "none");
    let service = Service::start(&board)?;
    let first = publish(&host, &built_in(), &[])?;
    ensure!(released(&board)?["state"] == "proposed");
    let now = wait_until("the release is kept", &board, |now| now["runs"] == "a" && now["trial"].is_null())?;
    ensure!(now["slots"]["a"]["bundle"] == first["bundle"], "{now}");
    ensure!(released(&board)?["state"] == "current");
    let status = trainer(&["publish", "status", "--host", &text(&host.folder)])?;
    ensure!(status.contains("garden  keeps release 1"), "{status}");
    // A second one, with a manifest of its own, goes to the other slot.
    let second = changed(place.path(), "tokenizer.json", |bytes| bytes.push(b'\n'))?;
    publish(&host, &second, &[])?;
    ensure!(released(&board)?["state"] == "proposed");
    wait_until("the second is kept", &board, |now| now["runs"] == "b" && now["trial"].is_null())?;
    ensure!(board.run(&["bundle", "verify"])?.json()?.iter().all(|slot| slot["wrong"] == serde_json::json!([])));
    // The operator goes back, and it is not taken again.
    service.stop()?;
    ensure!(board.say(&["bundle", "rollback"])?["runs"] == "a");
    ensure!(released(&board)?["state"] == "denied");
    Ok(())
}

#[test]
fn an_operator_chooses_what_the_service_runs_and_it_starts_anew_once_for_each() -> Result<()> {
    let (_place, board, host) = enrolled()?;
    let service = Service::start(&board)?;
    publish(&host, &built_in(), &[])?;
    ensure!(released(&board)?["state"] == "proposed");
    let runs = |slot: &'static str| move |now: &Value| now["runs"] == slot && now["trial"].is_null();
    wait_until("the release is kept", &board, runs("a"))?;
    board.say(&["bundle", "activate", "factory"])?;
    wait_until("what the board came with is kept", &board, runs("factory"))?;
    board.say(&["bundle", "activate", "a"])?;
    wait_until("the release is kept again", &board, runs("a"))?;
    ensure!(board.say(&["bundle", "rollback"])?["runs"] == "factory");
    let starts = || -> Result<usize> {
        Ok(fs::read_to_string(board.folder.join("log"))?.matches("the program starts itself anew").count())
    };
    let since = Instant::now();
    while starts()? < 4 {
        ensure!(since.elapsed() < PATIENCE, "a service that runs goes back too");
        std::thread::sleep(Duration::from_millis(200));
    }
    // Longer than from one look to the next.
    std::thread::sleep(Duration::from_secs(7));
    ensure!(starts()? == 4, "{} starts", starts()?);
    let status = board.say(&["sync", "status"])?;
    ensure!(status["release"]["runs"] == "factory" && status["release"]["fresh_until_s"].is_number(), "{status}");
    ensure!(status["release"]["last"].as_str().is_some_and(|last| last.contains("passed its test")), "{status}");
    service.stop()
}

#[test]
fn signed_releases_that_do_not_work_come_back_by_themselves() -> Result<()> {
    let (place, board, host) = enrolled()?;
    let golden = changed(place.path(), "golden.json", |bytes| {
        let mut golden: Value = serde_json::from_slice(bytes).unwrap_or_default();
        golden["caption"]["token_ids"][1] = 8.into();
        *bytes = serde_json::to_vec(&golden).unwrap_or_default();
    })?;
    let crashes = changed(place.path(), "decoder.onnx", |bytes| bytes.truncate(2000))?;
    let good = built_in();
    let cases: [(&Path, &[&str], &str); 5] = [
        (&golden, &[], "self-test"),
        (&crashes, &[], "decoder.onnx"),
        (&good, &["--seconds", "0"], "within 0 s"),
        (&good, &["--memory-mib", "2"], ""),
        (&good, &["--memory-mib", "8"], ""),
    ];
    for (number, (bundle, more, words)) in cases.into_iter().enumerate() {
        publish(&host, bundle, more)?;
        let met = released(&board)?;
        ensure!(met["state"] == "failed", "{number}: {met}");
        ensure!(met["reason"].as_str().is_some_and(|reason| reason.contains(words)), "{number}: {met}");
        let now = listed(&board)?;
        ensure!(now["runs"] == "factory" && now["trial"].is_null(), "{now}");
        ensure!(released(&board)?["state"] == "denied", "it is not tried again");
    }
    let status = trainer(&["publish", "status", "--host", &text(&host.folder)])?;
    ensure!(status.matches("gave release").count() == 5, "{status}");
    // Other boards' releases are not even fetched.
    publish(&host, &good, &["--class", "raspberry-pi-5"])?;
    let met = released(&board)?;
    ensure!(
        met["state"] == "refused" && met["reason"].as_str().is_some_and(|reason| reason.contains("other boards")),
        "{met}"
    );
    // And a good one is taken after all of them.
    publish(&host, &good, &[])?;
    ensure!(released(&board)?["state"] == "proposed");
    let service = Service::start(&board)?;
    wait_until("the good one is kept", &board, |now| !now["runs"].is_null() && now["runs"] != "factory")?;
    service.stop()
}

#[test]
fn a_release_that_breaks_after_its_test_is_given_back_by_the_service() -> Result<()> {
    let (_place, board, host) = enrolled()?;
    publish(&host, &built_in(), &[])?;
    ensure!(released(&board)?["state"] == "proposed");
    let slot = board.folder.join("updates/slots/a/weights.bin");
    let mut bytes = fs::read(&slot)?;
    bytes[100_000] ^= 0xff;
    fs::write(&slot, bytes)?;
    let service = Service::start(&board)?;
    let now = wait_until("it is given back", &board, |now| now["trial"].is_null())?;
    ensure!(now["runs"] == "factory" && now["denied"].as_array().is_some_and(|denied| denied.len() == 1), "{now}");
    service.stop()?;
    let log = fs::read_to_string(board.folder.join("log"))?;
    ensure!(log.contains("the model is ready"), "what ran before runs: {log}");
    Ok(())
}

#[test]
fn a_release_with_which_the_service_hangs_has_three_tries() -> Result<()> {
    let (_place, board, host) = enrolled()?;
    publish(&host, &built_in(), &[])?;
    ensure!(released(&board)?["state"] == "proposed");
    // Nobody ever writes to a pipe: whoever reads the bundle waits for ever.
    let manifest = board.folder.join("updates/slots/a/manifest.json");
    fs::remove_file(&manifest)?;
    ensure!(Command::new("mkfifo").arg(&manifest).status()?.success());
    for left in [2, 1, 0] {
        let service = Service::start(&board)?;
        wait_until("a try is counted", &board, |now| now["trial"]["tries"] == left)?;
        if left == 2 {
            // Longer than from one look to the next: a load that takes long is one try.
            std::thread::sleep(Duration::from_secs(7));
            ensure!(listed(&board)?["trial"]["tries"] == left);
        }
        // As the watchdog does.
        drop(service);
    }
    let service = Service::start(&board)?;
    let now = wait_until("it is given back", &board, |now| now["trial"].is_null())?;
    ensure!(now["runs"] == "factory", "{now}");
    ensure!(now["denied"][0]["reason"].as_str().is_some_and(|reason| reason.contains("3 tries")), "{now}");
    service.stop()?;
    ensure!(released(&board)?["state"] == "denied");
    Ok(())
}

#[test]
fn a_release_comes_on_a_stick_and_only_a_signed_one() -> Result<()> {
    let (place, board, host) = enrolled()?;
    publish(&host, &built_in(), &[])?;
    let stick = text(&host.folder.join("objects"));
    let config = text(&place.path().join("board.toml"));
    fs::write(&config, format!("[store]\nfolder = {:?}\n", text(&board.folder.join("pairs"))))?;
    let install = |stick: &str| {
        finish(Command::new(program("edgeblip")?).args(["bundle", "install", stick, "--config", &config, "--json"]))
    };
    let taken = install(&stick)?.json()?.remove(0);
    ensure!(taken["state"] == "proposed", "{taken}");
    // Another host's stick.
    let other = tempfile::tempdir()?;
    let stranger = Host::at(&other.path().join("host"))?;
    delegate(&stranger, other.path(), "1")?;
    publish(&stranger, &built_in(), &[])?;
    install(&text(&stranger.folder.join("objects")))?.refused(&["not signed by"])?;
    Ok(())
}
