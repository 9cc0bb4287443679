//! Boards and a host with a folder between them, as on a stick.
//!
//! `EDGEBLIP_LONG=1` kills either side 300 times instead of 15.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use exchange::{DeviceName, Digest, Receipt, SecretKey, signed};
use store::event::LabelAction;
use store::{Label, Stamp};

use crate::boards::{Board, Host, caption, pair, scene, text};
use crate::command_line::program;

#[test]
fn pairs_go_home_and_are_let_go_on_a_receipt_alone() -> Result<()> {
    let (_place, board, host) = scene()?;
    board.run(&["sync"])?.refused(&["enrol"])?;
    board.enrol(&host, "garden")?;
    let ids = board.keep(0..40, "a cat")?;
    let mut store = board.store("boot a")?;
    let action = LabelAction::Rewrite(caption("a grey cat")?);
    store.label(ids[3], Label { action, by: None, at: Stamp::default() })?;
    store.forget(ids[5], Stamp::default())?;
    store.put(pair(b"no picture at all".to_vec(), "a dog")?, Duration::ZERO)?;
    let broken = store.flush()?[0];
    drop(store);

    let sent = board.sync()?;
    ensure!(sent["state"] == "waiting" && sent["safe_to_remove"] == true, "{sent}");
    ensure!(sent["report"]["pairs"] == 41, "{sent}");
    ensure!(board.listed()?.values().all(|is_home| !is_home), "nothing is let go before the receipt");
    ensure!(board.sync()?["report"]["pairs"] == 0, "what is on its way is not sent again");

    let taken = host.inbox()?;
    ensure!(taken["pairs"] == 39 && taken["refused"] == 1 && taken["forgotten"] == 1, "{taken}");
    ensure!(host.inbox()?["shards"] == 0, "nothing is left");
    let home = board.sync()?;
    ensure!(home["state"] == "idle" && home["report"]["receipts"] == 1, "{home}");
    for (id, is_home) in board.listed()? {
        ensure!(is_home == (id != broken), "{id}");
    }
    let status = board.say(&["sync", "status"])?;
    ensure!(status["state"] == "idle" && status["refused"] == 1 && status["unsynced"] == 1, "{status}");
    let refused = std::fs::read_dir(board.folder.join("sync/refused"))?.next().context("a file of refusals")??.path();
    let reason = std::fs::read_to_string(refused)?;
    ensure!(reason.contains("its picture is not a picture"), "{reason}");
    host.check_shelf()?;
    ensure!(host.pairs()?.iter().map(|(_, _, labels)| labels).sum::<usize>() == 1);

    // A word of a person's and a removal follow.
    let mut store = board.store("boot a")?;
    store.label(ids[7], Label { action: LabelAction::Accept, by: None, at: Stamp::default() })?;
    let gone = store.reader().get(ids[9])?;
    store.forget(ids[9], Stamp::default())?;
    drop(store);
    ensure!(board.sync()?["report"]["pairs"] == 2, "the label and the tombstone");
    let taken = host.inbox()?;
    ensure!(taken["again"] == 1 && taken["forgotten"] == 1, "{taken}");
    ensure!(board.sync()?["state"] == "idle");
    ensure!(host.pairs()?.len() == 38 && host.pairs()?.iter().map(|(_, _, labels)| labels).sum::<usize>() == 2);
    let jpeg = gone.jpeg.context("its picture")?;
    for folder in std::fs::read_dir(host.folder.join("shards"))? {
        for tar in std::fs::read_dir(folder?.path())? {
            let bytes = std::fs::read(tar?.path())?;
            ensure!(!bytes.windows(jpeg.len()).any(|window| window == jpeg), "a forgotten picture is still there");
        }
    }
    host.check_shelf()
}

#[test]
fn a_forgotten_picture_is_nowhere_even_if_it_came_twice_or_late() -> Result<()> {
    let (_place, board, host) = scene()?;
    board.enrol(&host, "garden")?;
    let ids = board.keep(0..3, "a cat")?;
    let jpeg = board.store("boot a")?.reader().get(ids[1])?.jpeg.context("its picture")?;
    let is_there = || -> Result<bool> {
        let mut tars = Vec::new();
        for folder in std::fs::read_dir(host.folder.join("shards"))? {
            tars.extend(std::fs::read_dir(folder?.path())?.map(|tar| std::fs::read(tar?.path())));
        }
        let tars: std::io::Result<Vec<Vec<u8>>> = tars.into_iter().collect();
        Ok(tars?.iter().any(|tar| tar.windows(jpeg.len()).any(|window| window == jpeg)))
    };
    board.sync()?;
    host.inbox()?;
    board.sync()?;
    ensure!(is_there()?);
    // Somebody labels it, so that it comes again, beside a new pair; then it is forgotten.
    board.store("boot a")?.label(ids[1], Label { action: LabelAction::Accept, by: None, at: Stamp::default() })?;
    board.keep(3..4, "a dog")?;
    ensure!(board.sync()?["report"]["pairs"] == 2);
    host.inbox()?;
    board.sync()?;
    board.store("boot a")?.forget(ids[1], Stamp::default())?;
    board.sync()?;
    ensure!(host.inbox()?["forgotten"] == 1);
    ensure!(board.sync()?["state"] == "idle");
    ensure!(!is_there()? && host.pairs()?.len() == 3);
    host.check_shelf()
}

/// `tests/reference/sync_servers.py` says where, and opens it with `EDGEBLIP_USER` and `EDGEBLIP_SECRET`.
#[test]
fn a_thousand_pairs_arrive_once() -> Result<()> {
    let (_place, board, host) = scene()?;
    let url = std::env::var("EDGEBLIP_SYNC_URL");
    let url = url.unwrap_or_else(|_| format!("file://{}", text(&host.folder.join("objects"))));
    board.enrol_at(&host, "garden", &url, std::env::var("EDGEBLIP_USER").ok().as_deref())?;
    board.keep(0..1000, "a cat")?;
    let sent = board.sync()?;
    ensure!(sent["state"] == "waiting" && sent["report"]["pairs"] == 1000, "{sent}");
    let taken = host.say(&["inbox"], &["--from", &url])?;
    ensure!(taken["pairs"] == 1000 && taken["again"] == 0, "{taken}");
    let home = board.sync()?;
    ensure!(home["state"] == "idle" && home["report"]["lost"] == 0, "{home}");
    ensure!(board.listed()?.values().all(|is_home| *is_home));
    let mut known: Vec<Digest> = host.pairs()?.into_iter().map(|(_, hash, _)| hash).collect();
    known.sort_unstable();
    let mut kept: Vec<Digest> = board.hashes()?.into_values().collect();
    kept.sort_unstable();
    ensure!(known == kept && kept.len() == 1000);
    host.check_shelf()
}

#[test]
fn two_boards_with_one_card_lose_nothing() -> Result<()> {
    let (place, first, host) = scene()?;
    first.enrol(&host, "garden")?;
    first.keep(0..5, "a cat")?;
    let second = Board::at(&place.path().join("copy"));
    let copied = Command::new("cp").arg("-a").arg(&first.folder).arg(&second.folder).status()?;
    ensure!(copied.success());
    // From here on both give the same names to different pairs.
    ensure!(first.keep(10..15, "a dog")? == second.keep(20..25, "a bird")?, "the names are the same");
    for _ in 0..3 {
        first.sync()?;
        host.inbox()?;
        second.sync()?;
        host.inbox()?;
    }
    for board in [&first, &second] {
        let known: Vec<Digest> = host.pairs()?.into_iter().map(|(_, hash, _)| hash).collect();
        for (id, hash) in board.hashes()? {
            ensure!(known.contains(&hash), "{id} is not at home");
        }
        ensure!(board.listed()?.values().all(|is_home| *is_home), "each board has its receipts");
    }
    ensure!(host.pairs()?.len() == 15, "{:?}", host.pairs()?);
    Ok(())
}

#[test]
fn a_receipt_by_another_host_lets_nothing_go() -> Result<()> {
    let (place, board, host) = scene()?;
    board.enrol(&host, "garden")?;
    board.keep(0..5, "a cat")?;
    board.sync()?;
    // The host lost its key, and a new one signs.
    let device: DeviceName = "garden".parse()?;
    let shards = host.folder.join("objects").join(device.shards());
    let shard = std::fs::read_dir(&shards)?.next().context("a shard")??.file_name();
    let shard = exchange::device::shard_of(shard.to_str().context("a plain name")?).context("a shard's name")?;
    let stranger = SecretKey::generate()?;
    let receipt = Receipt { device: device.clone(), shard, lines: Vec::new(), refused: None };
    let path = host.folder.join("objects").join(device.receipt(shard));
    std::fs::create_dir_all(path.parent().context("a folder")?)?;
    std::fs::write(&path, signed::sign(&receipt, &[&stranger]))?;
    let config = place.path().join("quick.toml");
    std::fs::write(&config, "[sync]\npatience_s = 0\n")?;
    let met = board.say(&["sync", "--now", "--config", &text(&config)])?;
    ensure!(
        met["state"] == "failing" && met["words"].as_str().is_some_and(|words| words.contains("did not sign")),
        "{met}"
    );
    ensure!(board.listed()?.values().all(|is_home| !is_home));
    // Another host's grant is not taken by mistake.
    let other = Host::at(&place.path().join("other"))?;
    let error = board.enrol(&other, "garden").err().context("another host")?;
    ensure!(error.to_string().contains("--replace-host"), "{error}");
    // The old host is itself again.
    std::fs::remove_file(&path)?;
    host.inbox()?;
    ensure!(board.sync()?["state"] == "idle");
    ensure!(board.listed()?.values().all(|is_home| *is_home));
    Ok(())
}

#[test]
fn files_that_no_board_writes_are_set_aside_and_cut_ones_come_again() -> Result<()> {
    let (_place, board, host) = scene()?;
    board.enrol(&host, "garden")?;
    board.keep(0..5, "a cat")?;
    board.sync()?;
    let shards = host.folder.join("objects/devices/garden/shards");
    let shard = std::fs::read_dir(&shards)?.next().context("a shard")??.path();
    let bytes = std::fs::read(&shard)?;
    std::fs::write(&shard, &bytes[..bytes.len() / 2])?;
    let hostile = b"no tar";
    std::fs::write(shards.join(format!("{}.tar", Digest::of(hostile))), hostile)?;
    std::fs::write(shards.join("readme.txt"), "hello")?;
    std::fs::create_dir_all(host.folder.join("objects/devices/stranger/shards"))?;
    std::fs::write(host.folder.join("objects/devices/stranger/shards").join(format!("{}.tar", Digest::of(b"x"))), "x")?;
    let taken = host.inbox()?;
    ensure!(taken["broken"] == 1 && taken["quarantined"] == 1 && taken["unknown"]["stranger"] == 1, "{taken}");
    ensure!(std::fs::read_dir(host.folder.join("quarantine"))?.count() == 1);
    let again = board.sync()?;
    ensure!(again["report"]["lost"] == 1 && again["report"]["pairs"] == 5, "{again}");
    ensure!(host.inbox()?["pairs"] == 5);
    ensure!(board.sync()?["state"] == "idle");
    Ok(())
}

#[test]
fn either_side_may_be_killed_at_any_moment() -> Result<()> {
    let kills = if std::env::var_os("EDGEBLIP_LONG").is_some() { 300 } else { 15 };
    let (_place, board, host) = scene()?;
    board.enrol(&host, "garden")?;
    let (store, folder) = (text(&board.folder.join("pairs")), text(&host.folder));
    let mut number = 0;
    for kill in 0..kills {
        board.keep(number..number + 7, "a cat")?;
        number += 7;
        let sides: [(&str, Vec<&str>); 2] = [
            ("edgeblip", vec!["sync", "--now", "--store", &store]),
            ("edgeblip-trainer", vec!["inbox", "--host", &folder]),
        ];
        for (place, (name, arguments)) in sides.iter().enumerate() {
            let mut command = Command::new(program(name)?);
            command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn()?;
            std::thread::sleep(Duration::from_millis((kill * 37 + place as u64 * 11) % 90));
            child.kill()?;
            child.wait()?;
        }
    }
    for _ in 0..4 {
        board.sync()?;
        host.inbox()?;
    }
    ensure!(board.sync()?["state"] == "idle");
    ensure!(board.listed()?.values().all(|is_home| *is_home), "everything has its receipt");
    let mut known: Vec<Digest> = host.pairs()?.into_iter().map(|(_, hash, _)| hash).collect();
    known.sort_unstable();
    let mut kept: Vec<Digest> = board.hashes()?.into_values().collect();
    kept.sort_unstable();
    ensure!(kept.len() as u64 == number && known == kept, "{} kept, {} at home", kept.len(), known.len());
    host.check_shelf()
}
