//! Groups over this machine's own network; the sums are worked out by hand.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::frame::{Call, Header, Kind, Operation};
use super::{Group, Limits, MAX_MESSAGE_BYTES, Place, RanksError, meeting};

/// For what fails within a limit: silence is noticed soon.
const QUICK: Limits =
    Limits { meeting: Duration::from_secs(5), silence: Duration::from_millis(400), patience: Duration::from_secs(60) };

/// What each rank of a group returns.
fn each<T: Send>(world: usize, work: impl Fn(Group) -> T + Sync) -> Vec<T> {
    let groups = Group::loopback(world, Limits::default()).unwrap();
    std::thread::scope(|scope| {
        let ranks: Vec<_> = groups.into_iter().map(|group| scope.spawn(|| work(group))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn failures(world: usize, work: impl Fn(&Group) -> Result<(), RanksError> + Sync) -> Vec<String> {
    let ended = each(world, |group| {
        let error = work(&group).err();
        let after = group.barrier().err();
        assert!(error.is_none() || after.is_some(), "a failed group stays failed: {error:?}, {after:?}");
        error.map_or(String::new(), |error| error.to_string())
    });
    ended.into_iter().collect()
}

/// Listens where nobody else does, and says where.
fn place() -> (TcpListener, impl Fn(usize, usize) -> Place) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let at = move |rank, world| Place { rank, world, local_rank: 0, address: "127.0.0.1".to_owned(), port };
    (listener, at)
}

fn facts(batch: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("batch".to_owned(), batch.to_owned()), ("seed".to_owned(), "7".to_owned())])
}

#[test]
fn sums_run_in_rank_order_on_every_rank() {
    for world in [1, 2, 3] {
        for length in [0, 1, 1000, 600_000] {
            let summed = each(world, |group| {
                let value = [1e8, 1.0, -1e8][group.rank()];
                let mut values: Vec<f32> = (0..length).map(|at| value + (at % 7) as f32).collect();
                group.all_reduce(&mut values).unwrap();
                values
            });
            let expected = |at: usize| {
                (1..world).fold(1e8 + (at % 7) as f32, |sum, rank| sum + ([1e8, 1.0, -1e8][rank] + (at % 7) as f32))
            };
            for values in summed {
                assert!(values.len() == length && (0..length).all(|at| values[at].to_bits() == expected(at).to_bits()));
            }
        }
    }
}

#[test]
fn gathered_values_stand_in_rank_order_and_parts_of_a_sum_reach_their_rank() {
    for world in [1, 2, 3] {
        let length = 270_000;
        each(world, |group| {
            let rank = group.rank();
            let own: Vec<u32> = (0..length as u32).map(|at| at * 4 + rank as u32).collect();
            let all = group.all_gather_u32(&own).unwrap();
            assert!((0..world * length).all(|at| all[at] == (at % length * 4 + at / length) as u32));
            assert_eq!(group.all_gather_u64(&[rank as u64]).unwrap(), (0..world as u64).collect::<Vec<_>>());
            assert_eq!(group.all_gather(&[0.5 + rank as f32]).unwrap().len(), world);
            let part = 300_001;
            let values: Vec<f32> = (0..world * part).map(|at| (at % 1024 + rank) as f32).collect();
            let sum = group.reduce_scatter(&values).unwrap();
            let ranks: usize = (0..world).sum();
            assert!(sum.len() == part);
            assert!((0..part).all(|at| sum[at] == ((rank * part + at) % 1024 * world + ranks) as f32));
        });
    }
}

#[test]
fn every_rank_gets_rank_zeros_bytes() {
    for world in [1, 2, 3] {
        for length in [0, 5, 3 << 20] {
            let message: Vec<u8> = (0..length).map(|at| at as u8).collect();
            let got = each(world, |group| {
                let own = if group.rank() == 0 { message.clone() } else { vec![9; 3] };
                let got = group.broadcast_bytes(&own).unwrap();
                group.barrier().unwrap();
                got
            });
            assert!(got.iter().all(|got| *got == message));
        }
    }
}

#[test]
fn a_rank_that_ends_is_named_on_all_others() {
    let words = failures(3, |group| match group.rank() {
        2 => {
            group.end("the loss is NaN at step 12");
            Ok(())
        }
        _ => group.barrier(),
    });
    let expected = "rank 2 ended the run: the loss is NaN at step 12";
    assert_eq!(words[..2], [expected, expected]);
}

#[test]
fn a_rank_that_is_gone_is_named_on_all_others_at_once() {
    let start = Instant::now();
    let words = each(3, |group| match group.rank() {
        1 => drop(group),
        _ => {
            let error = group.all_reduce(&mut [0.0; 8]).unwrap_err().to_string();
            assert!(error.contains("rank 1 is gone: its connection closed before the end of operation 0"), "{error}");
        }
    });
    assert_eq!(words.len(), 3);
    assert!(start.elapsed() < Limits::default().silence);
}

#[test]
fn a_rank_that_goes_while_another_is_waited_for_is_noticed() {
    let groups = Group::loopback(3, Limits { silence: Duration::from_secs(8), ..Limits::default() }).unwrap();
    let start = Instant::now();
    let [first, second, third]: [Group; 3] = groups.try_into().unwrap();
    std::thread::scope(|scope| {
        let waits = scope.spawn(move || first.barrier().unwrap_err().to_string());
        third.end("the disk is full");
        drop(third);
        let error = waits.join().unwrap();
        assert!(error.contains("rank 2 ended the run: the disk is full"), "{error}");
        assert!(start.elapsed() < Duration::from_secs(30));
        let error = second.barrier().unwrap_err().to_string();
        assert!(error.contains("rank 2 ended the run: the disk is full"), "{error}");
    });
}

#[test]
fn ranks_out_of_step_are_told_where_each_is() {
    let words = failures(3, |group| {
        let length = if group.rank() == 2 { 5 } else { 4 };
        group.all_reduce(&mut vec![0.0; length])
    });
    let expected = "rank 2 is at operation 0 (all-reduce of 20 bytes), rank 0 at operation 0 (all-reduce of 16 bytes): the ranks \
         are out of step";
    assert_eq!(words[0], expected);
    assert!(words[1..].iter().all(|words| words.contains(expected)), "{words:?}");
    let words = failures(2, |group| match group.rank() {
        0 => group.barrier(),
        _ => group.all_gather(&[1.0]).map(drop),
    });
    assert!(words[0].contains("rank 1 is at operation 0 (all-gather of 4 bytes)"), "{words:?}");
    let words = failures(2, |group| group.reduce_scatter(&[0.0; 3]).map(drop));
    assert!(words[0].contains("3 values cannot be shared out among 2 ranks"), "{words:?}");
}

#[test]
fn settings_and_worlds_that_differ_are_refused_by_name() {
    for (world, batch, words) in [
        (2, "16", "rank 1 and rank 0 cannot train together: batch is 16 on rank 1 and 32 on rank 0"),
        (3, "32", "the number of ranks is 3 on rank 1 and 2 on rank 0"),
    ] {
        let (listener, at) = place();
        std::thread::scope(|scope| {
            let other = scope.spawn(|| Group::connect(&at(1, world), &facts(batch), QUICK).unwrap_err().to_string());
            let first = Group::receive(&listener, &at(0, 2), &facts("32"), QUICK).unwrap_err().to_string();
            assert!(first.contains(words), "{first}");
            let other = other.join().unwrap();
            assert!(other.contains("rank 0 turned this rank away") && other.contains(words), "{other}");
        });
    }
}

#[test]
fn ranks_that_do_not_come_are_named() {
    let brief = Limits { meeting: Duration::from_millis(150), ..QUICK };
    let (listener, at) = place();
    let error = Group::receive(&listener, &at(0, 3), &facts("1"), brief).unwrap_err().to_string();
    assert!(error.starts_with("ranks 1, 2 did not come within 0 s"), "{error}");
    drop(listener);
    let error = Group::connect(&at(1, 3), &facts("1"), brief).unwrap_err();
    assert!(matches!(error, RanksError::Unreachable { .. }), "{error}");
}

#[test]
fn strangers_and_seconds_are_turned_away_and_the_run_goes_on() {
    let (listener, at) = place();
    let port = at(0, 2).port;
    for noise in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0; 8], b"PLBE\xff\xff\xff\xff", b""] {
        TcpStream::connect(("127.0.0.1", port)).unwrap().write_all(noise).unwrap();
    }
    let limits = Limits { meeting: QUICK.meeting, ..Limits::default() };
    std::thread::scope(|scope| {
        let others = [0, 1].map(|_| scope.spawn(|| Group::connect(&at(1, 2), &facts("1"), limits)));
        let first = Group::receive(&listener, &at(0, 2), &facts("1"), limits).unwrap();
        drop(listener);
        let started = others.into_iter().filter_map(|other| other.join().unwrap().ok()).collect::<Vec<_>>();
        assert_eq!(started.len(), 1);
        let other = scope.spawn(move || started[0].barrier());
        first.barrier().unwrap();
        other.join().unwrap().unwrap();
    });
}

/// Rank 0 and the bare connection of a rank 1 that gives no sign of life.
fn beside_a_mute_rank() -> (Group, TcpStream) {
    let (listener, at) = place();
    std::thread::scope(|scope| {
        let mute = scope.spawn(|| meeting::join(&at(1, 2), &facts("1"), &QUICK).unwrap());
        (Group::receive(&listener, &at(0, 2), &facts("1"), QUICK).unwrap(), mute.join().unwrap())
    })
}

#[test]
fn a_rank_without_a_sign_of_life_is_named_within_the_limit() {
    let (group, mute) = beside_a_mute_rank();
    let start = Instant::now();
    let error = group.barrier().unwrap_err();
    assert!(matches!(error, RanksError::Silent { rank: 1, .. }), "{error}");
    assert!(start.elapsed() >= QUICK.silence && start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(mute);
}

#[test]
fn a_broadcast_is_as_long_as_a_model() {
    let length = 3 * MAX_MESSAGE_BYTES / size_of::<f32>() + 5;
    let told = each(3, |group| {
        let mut values: Vec<f32> = (0..length).map(|place| (place * (1 - group.rank().min(1))) as f32).collect();
        group.broadcast(&mut values).unwrap();
        values
    });
    assert!(told.iter().all(|values| values.iter().enumerate().all(|(place, value)| *value == place as f32)));
    let differ = failures(2, |group| group.broadcast(&mut vec![1_u32; 3 + group.rank()]));
    assert!(differ.iter().any(|message| message.contains("out of step")), "{differ:?}");
}

#[test]
fn a_rank_that_lives_and_does_not_come_is_named() {
    let patience = Duration::from_millis(1200);
    let groups = Group::loopback(2, Limits { patience, silence: Duration::from_secs(4), ..QUICK }).unwrap();
    let error = groups[0].barrier().unwrap_err().to_string();
    assert!(error.contains("rank 1 lives, but did not come to operation 0 (barrier of 0 bytes)"), "{error}");
}

#[test]
fn lengths_that_nobody_asked_for_are_refused_unread() {
    let call = Call { operation: Operation::AllReduce, number: 0, bytes: 16 };
    for (kind, bytes, words) in [
        (Kind::Call, u64::MAX, "the ranks are out of step"),
        (Kind::Part, u64::MAX, "it sent operation 0 (all-reduce of 18446744073709551615 bytes) where"),
        (Kind::Stop, u64::MAX, "rank 0 ended the run: "),
    ] {
        let (group, mut mute) = beside_a_mute_rank();
        if kind == Kind::Part {
            mute.write_all(&Header { kind: Kind::Call, call }.to_bytes()).unwrap();
        }
        mute.write_all(&Header { kind, call: Call { bytes, ..call } }.to_bytes()).unwrap();
        mute.write_all(&[b'x'; 8192]).unwrap();
        let error = group.all_reduce(&mut [0.0; 4]).unwrap_err().to_string();
        assert!(error.contains(words) && error.len() < 5000, "{error}");
    }
    let (group, mut mute) = beside_a_mute_rank();
    mute.write_all(&[0xee; 24]).unwrap();
    assert!(group.barrier().unwrap_err().to_string().contains("it sent what is no message"));
}
