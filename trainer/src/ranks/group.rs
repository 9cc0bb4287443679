//! What connected ranks do together.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::ops::Range;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use bytemuck::Pod;

use super::frame::{Call, Header, Kind, MAX_PART_BYTES, Operation};
use super::link::{self, Link, Writer};
use super::{Limits, Place, RanksError, meeting};

/// Longest message of [`Group::broadcast_bytes`].
pub const MAX_MESSAGE_BYTES: usize = 16 << 20;

type Result<T> = std::result::Result<T, RanksError>;

/// All ranks of a run, seen from one of them.
///
/// Every rank calls the same operations in the same order. One that fails ends the group for all: each later operation
/// fails with [`RanksError::Over`]. A rank that leaves ends the others when they come to their next operation, or while
/// they wait in one.
#[derive(Debug)]
pub struct Group {
    rank: usize,
    world: usize,
    star: Mutex<Star>,
    pulse: Option<(Sender<()>, JoinHandle<()>)>,
}

/// The connections: rank 0's to all others by rank, or another rank's to rank 0.
#[derive(Debug)]
struct Star {
    rank: usize,
    links: Vec<Link>,
    /// Operations so far.
    number: u64,
    over: Option<String>,
}

impl Group {
    /// Waits until all ranks are there. `facts` are settings that must be the same on all ranks, by name.
    ///
    /// # Errors
    /// Ranks that do not come in time; a rank of another version, world or setting, which is named.
    pub fn connect(place: &Place, facts: &BTreeMap<String, String>, limits: Limits) -> Result<Group> {
        match (place.world, place.rank) {
            (1, _) => Group::of(place, Vec::new(), limits),
            (_, 0) => Group::receive(&meeting::listen(place)?, place, facts, limits),
            _ => Group::of(place, vec![meeting::join(place, facts, &limits)?], limits),
        }
    }

    /// A group of one, which exchanges nothing.
    pub fn alone() -> Group {
        let star = Star { rank: 0, links: Vec::new(), number: 0, over: None };
        Group { rank: 0, world: 1, star: Mutex::new(star), pulse: None }
    }

    /// Ranks of one process, for its threads, over this machine's own network.
    ///
    /// # Errors
    /// As [`Group::connect`].
    pub fn loopback(world: usize, limits: Limits) -> Result<Vec<Group>> {
        let address = "127.0.0.1".to_owned();
        let failed = |source| RanksError::Listen { address: "127.0.0.1".to_owned(), source };
        let listener = TcpListener::bind((address.as_str(), 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let place = |rank| Place { rank, world, local_rank: rank, address: address.clone(), port };
        let facts = BTreeMap::new();
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..world)
                .map(|rank| {
                    let (place, facts) = (place(rank), &facts);
                    scope.spawn(move || Group::connect(&place, facts, limits))
                })
                .collect();
            let first = Group::receive(&listener, &place(0), &facts, limits);
            let others = others.into_iter().map(|other| other.join().expect("connecting does not panic"));
            std::iter::once(first).chain(others).collect()
        })
    }

    pub(super) fn receive(
        listener: &TcpListener,
        place: &Place,
        facts: &BTreeMap<String, String>,
        limits: Limits,
    ) -> Result<Group> {
        Group::of(place, meeting::gather(listener, place, facts, &limits)?, limits)
    }

    fn of(place: &Place, streams: Vec<std::net::TcpStream>, limits: Limits) -> Result<Group> {
        let first = usize::from(place.rank == 0);
        let links = streams.into_iter().zip(first..).map(|(stream, rank)| {
            let failed = |error| RanksError::Gone { rank, during: format!("at the start: {error}") };
            Link::new(rank, stream, limits).map_err(failed)
        });
        let links = links.collect::<Result<Vec<_>>>()?;
        let writers: Vec<_> = links.iter().map(Link::writer).collect();
        let pulse = (!writers.is_empty()).then(|| {
            let (stop, stopped) = channel();
            (stop, std::thread::spawn(move || beat(&writers, link::interval(&limits), &stopped)))
        });
        let star = Star { rank: place.rank, links, number: 0, over: None };
        Ok(Group { rank: place.rank, world: place.world, star: Mutex::new(star), pulse })
    }

    /// This process among [`Group::world`].
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of processes.
    pub fn world(&self) -> usize {
        self.world
    }

    /// Sum over ranks, in rank order, in place.
    ///
    /// # Errors
    /// Where a rank is gone, silent, late or out of step; so for all operations.
    pub fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        self.together(Operation::AllReduce, bytes_of(values), |star, call| {
            star.sum(values, call)?;
            let all = 0..values.len();
            star.spread(values, |_| all.clone(), call)
        })
    }

    /// All ranks' values one after the other.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn all_gather(&self, values: &[f32]) -> Result<Vec<f32>> {
        self.gather(values)
    }

    /// All ranks' values one after the other.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn all_gather_u32(&self, values: &[u32]) -> Result<Vec<u32>> {
        self.gather(values)
    }

    /// All ranks' values one after the other.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn all_gather_u64(&self, values: &[u64]) -> Result<Vec<u64>> {
        self.gather(values)
    }

    /// Sum over ranks, in rank order, of which rank `r` of `n` gets the `r`-th of `n` equal parts.
    ///
    /// # Errors
    /// As [`Group::all_reduce`]; a length that is no multiple of the number of ranks.
    pub fn reduce_scatter(&self, values: &[f32]) -> Result<Vec<f32>> {
        let (world, length) = (self.world, values.len());
        if !length.is_multiple_of(world) {
            return Err(self.refuse(RanksError::Uneven { length, world }));
        }
        let part = length / world;
        let own = self.rank * part..(self.rank + 1) * part;
        let mut sum = values.to_vec();
        self.together(Operation::ReduceScatter, bytes_of(values), |star, call| {
            star.sum(&mut sum, call)?;
            star.spread(&mut sum, |rank| rank * part..(rank + 1) * part, call)
        })?;
        Ok(sum[own].to_vec())
    }

    /// Rank 0's bytes, at most [`MAX_MESSAGE_BYTES`]; what other ranks bring is not looked at.
    ///
    /// # Errors
    /// As [`Group::all_reduce`]; a message that is too long.
    pub fn broadcast_bytes(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let own = if self.rank == 0 { bytes } else { &[] };
        if own.len() > MAX_MESSAGE_BYTES {
            return Err(self.refuse(RanksError::TooLong { bytes: own.len() }));
        }
        let mut message = own.to_vec();
        self.together(Operation::Broadcast, own.len() as u64, |star, call| {
            if call.bytes > MAX_MESSAGE_BYTES as u64 {
                return Err(RanksError::TooLong { bytes: call.bytes as usize });
            }
            message.resize(call.bytes as usize, 0);
            let all = 0..message.len();
            star.spread(&mut message, |_| all.clone(), call)
        })?;
        Ok(message)
    }

    /// Rank 0's values in place of every rank's, however many; all ranks bring as many.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn broadcast<T: Pod>(&self, values: &mut [T]) -> Result<()> {
        for part in bytemuck::cast_slice_mut::<T, u8>(values).chunks_mut(MAX_MESSAGE_BYTES) {
            let told = self.broadcast_bytes(part)?;
            if told.len() != part.len() {
                let (theirs, ours) = (format!("{} bytes", told.len()), format!("{} bytes", part.len()));
                return Err(self.refuse(RanksError::OutOfStep { rank: 0, theirs, own: self.rank, ours }));
            }
            part.copy_from_slice(&told);
        }
        Ok(())
    }

    /// Returns when all ranks have come to it.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn barrier(&self) -> Result<()> {
        self.together(Operation::Barrier, 0, |_, _| Ok(()))
    }

    /// Ends the run for all ranks, and says why: each of the others fails with [`RanksError::Ended`].
    pub fn end(&self, reason: &str) {
        self.lock().end(&RanksError::Ended { rank: self.rank, reason: reason.to_owned() });
    }

    fn refuse(&self, error: RanksError) -> RanksError {
        self.lock().end(&error);
        error
    }

    fn gather<T: Pod>(&self, values: &[T]) -> Result<Vec<T>> {
        let length = values.len();
        let mut all = vec![T::zeroed(); length * self.world];
        all[self.rank * length..][..length].copy_from_slice(values);
        self.together(Operation::AllGather, bytes_of(values), |star, call| {
            star.collect(&mut all, length, call)?;
            let whole = 0..all.len();
            star.spread(&mut all, |_| whole.clone(), call)
        })?;
        Ok(all)
    }

    /// Runs an operation that all ranks have come to, and ends the group where it fails.
    fn together(
        &self,
        operation: Operation,
        bytes: u64,
        exchange: impl FnOnce(&Star, &Call) -> Result<()>,
    ) -> Result<()> {
        if self.world == 1 {
            return Ok(());
        }
        let mut star = self.lock();
        if let Some(reason) = &star.over {
            return Err(RanksError::Over { reason: reason.clone() });
        }
        let call = Call { operation, number: star.number, bytes };
        star.number += 1;
        let done = star.agree(call).and_then(|call| exchange(&star, &call));
        done.inspect_err(|error| star.end(error))
    }

    fn lock(&self) -> MutexGuard<'_, Star> {
        self.star.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.pulse.take() {
            drop(stop);
            // The thread only writes; if it ever panicked, its connections are closed with it.
            let _ = thread.join();
        }
    }
}

impl Star {
    /// Waits until all ranks are at this operation; the call as rank 0 has it.
    fn agree(&self, call: Call) -> Result<Call> {
        if self.rank > 0 {
            let link = &self.links[0];
            link.send(Header { kind: Kind::Call, call }, &[], &call)?;
            let header = link.header(&call, || Ok(()))?;
            let told = Call { bytes: call.bytes, ..header.call };
            let expected = if call.operation == Operation::Broadcast { told } else { header.call };
            return match header.kind == Kind::Go && expected == call {
                true => Ok(header.call),
                false => Err(out_of_step(0, header.call, (self.rank, call))),
            };
        }
        let expected = Call { bytes: if call.operation == Operation::Broadcast { 0 } else { call.bytes }, ..call };
        for (place, link) in self.links.iter().enumerate() {
            let others = || self.links.iter().enumerate().filter(|(other, _)| *other != place);
            let header = link.header(&call, || others().try_for_each(|(_, other)| other.still_there(&call)))?;
            if header != (Header { kind: Kind::Call, call: expected }) {
                return Err(out_of_step(link.rank(), header.call, (0, call)));
            }
        }
        for link in &self.links {
            link.send(Header { kind: Kind::Go, call }, &[], &call)?;
        }
        Ok(call)
    }

    /// Rank 0 gets all ranks' values, `length` each, into their places.
    fn collect<T: Pod>(&self, all: &mut [T], length: usize, call: &Call) -> Result<()> {
        let own = self.rank * length;
        for part in parts::<T>(0..length) {
            for link in &self.links {
                let from = |rank: usize| rank * length + part.start..rank * length + part.end;
                match self.rank {
                    0 => link.part(bytemuck::cast_slice_mut(&mut all[from(link.rank())]), call)?,
                    _ => send_part(link, &all[own + part.start..own + part.end], call)?,
                }
            }
        }
        Ok(())
    }

    /// Rank 0 adds all other ranks' values to its own, in rank order.
    fn sum(&self, values: &mut [f32], call: &Call) -> Result<()> {
        let mut theirs = Vec::new();
        for part in parts::<f32>(0..values.len()) {
            for link in &self.links {
                if self.rank > 0 {
                    send_part(link, &values[part.clone()], call)?;
                    continue;
                }
                theirs.resize(part.len(), 0.0);
                link.part(bytemuck::cast_slice_mut(&mut theirs), call)?;
                values[part.clone()].iter_mut().zip(&theirs).for_each(|(sum, more)| *sum += more);
            }
        }
        Ok(())
    }

    /// Rank 0 gives each other rank its range of the values, which that rank gets in the same place.
    fn spread<T: Pod>(&self, values: &mut [T], range: impl Fn(usize) -> Range<usize>, call: &Call) -> Result<()> {
        if self.rank > 0 {
            let link = &self.links[0];
            for part in parts::<T>(range(self.rank)) {
                link.part(bytemuck::cast_slice_mut(&mut values[part]), call)?;
            }
            return Ok(());
        }
        let longest = self.links.iter().map(|link| parts::<T>(range(link.rank())).count()).max().unwrap_or(0);
        for number in 0..longest {
            for link in &self.links {
                if let Some(part) = parts::<T>(range(link.rank())).nth(number) {
                    send_part(link, &values[part], call)?;
                }
            }
        }
        Ok(())
    }

    /// Tells the other ranks why the run ends, the first time.
    fn end(&mut self, error: &RanksError) {
        if self.over.is_some() {
            return;
        }
        let (rank, reason) = match error {
            RanksError::Ended { rank, reason } => (*rank, reason.clone()),
            other => (self.rank, other.to_string()),
        };
        self.links.iter().for_each(|link| link.stop(rank, &reason));
        self.over = Some(error.to_string());
    }
}

/// The range in parts of at most [`MAX_PART_BYTES`].
fn parts<T>(range: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let most = MAX_PART_BYTES / size_of::<T>();
    range.clone().step_by(most).map(move |start| start..(start + most).min(range.end))
}

fn send_part<T: Pod>(link: &Link, part: &[T], call: &Call) -> Result<()> {
    let header = Header { kind: Kind::Part, call: Call { bytes: bytes_of(part), ..*call } };
    link.send(header, bytemuck::cast_slice(part), call)
}

fn bytes_of<T>(values: &[T]) -> u64 {
    size_of_val(values) as u64
}

fn out_of_step(rank: usize, theirs: Call, (own, ours): (usize, Call)) -> RanksError {
    RanksError::OutOfStep { rank, theirs: theirs.to_string(), own, ours: ours.to_string() }
}

/// Gives signs of life until it is told to stop.
fn beat(writers: &[Writer], interval: Duration, stopped: &Receiver<()>) {
    while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
        writers.iter().for_each(|writer| writer.beat());
    }
}
