//! How the ranks come together.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Limits, Place, RanksError};

/// First word of every message of the meeting, in the machine's own byte order: values travel in it.
const MAGIC: u32 = u32::from_be_bytes(*b"EBLP");
/// Version of what the ranks say to each other.
const VERSION: u32 = 1;
/// Longest message of the meeting, in bytes.
const MAX_BYTES: usize = 1 << 16;
/// How long one connection may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two looks for a rank that is not there yet.
const PAUSE: Duration = Duration::from_millis(20);

/// What a rank says of itself.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Hello {
    version: u32,
    rank: usize,
    world: usize,
    facts: BTreeMap<String, String>,
}

/// What rank 0 answers: why not, or nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Answer {
    refused: Option<String>,
}

/// A place to listen that the other ranks can reach: this machine alone where `place` names it so.
pub fn listen(place: &Place) -> Result<TcpListener, RanksError> {
    let failed = |source| RanksError::Listen { address: address(place), source };
    let loopback = addresses(place).is_ok_and(|all| all.iter().all(|address| address.ip().is_loopback()));
    let ips: &[IpAddr] = match loopback {
        true => &[IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)],
        false => &[IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
    };
    let all: Vec<_> = ips.iter().map(|ip| SocketAddr::new(*ip, place.port)).collect();
    TcpListener::bind(all.as_slice()).map_err(failed)
}

/// Waits for all other ranks; their connections by rank, from 1 on.
///
/// A connection that does not say who it is in our words is closed and forgotten.
pub fn gather(
    listener: &TcpListener,
    place: &Place,
    facts: &BTreeMap<String, String>,
    limits: &Limits,
) -> Result<Vec<TcpStream>, RanksError> {
    let deadline = Instant::now() + limits.meeting;
    let mut streams: BTreeMap<usize, TcpStream> = BTreeMap::new();
    let failed = |source| RanksError::Listen { address: address(place), source };
    listener.set_nonblocking(true).map_err(failed)?;
    while streams.len() + 1 < place.world {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Some((rank, stream)) = welcome(stream, place, facts, &mut streams)? {
                    streams.insert(rank, stream);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => (),
            Err(error) => return Err(failed(error)),
        }
        if Instant::now() >= deadline && streams.len() + 1 < place.world {
            let ranks: Vec<_> = (1..place.world).filter(|rank| !streams.contains_key(rank)).collect();
            let error = RanksError::Absent { ranks, seconds: limits.meeting.as_secs() };
            return Err(turn_away(&mut streams, error));
        }
    }
    for (rank, stream) in &mut streams {
        let gone = |_| RanksError::Gone { rank: *rank, during: "before the ranks came together".to_owned() };
        say(stream, &Answer { refused: None }).map_err(gone)?;
    }
    Ok(streams.into_values().collect())
}

/// Hears who a connection is. Nothing where it is none of ours.
fn welcome(
    mut stream: TcpStream,
    place: &Place,
    facts: &BTreeMap<String, String>,
    streams: &mut BTreeMap<usize, TcpStream>,
) -> Result<Option<(usize, TcpStream)>, RanksError> {
    let ready = stream.set_nonblocking(false).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    let Ok(hello) = ready.and_then(|()| hear::<Hello>(&mut stream, Instant::now() + PATIENCE)) else {
        return Ok(None);
    };
    if streams.contains_key(&hello.rank) {
        let refused = Some(format!("rank {} is here already", hello.rank));
        // A second process of one rank gives way; the run goes on.
        let _ = say(&mut stream, &Answer { refused });
        return Ok(None);
    }
    match difference(&hello, place, facts) {
        None => Ok(Some((hello.rank, stream))),
        Some(reason) => {
            let rank = hello.rank;
            streams.insert(rank, stream);
            Err(turn_away(streams, RanksError::Refused { rank, reason }))
        }
    }
}

/// Tells all who came why nothing comes of it.
fn turn_away(streams: &mut BTreeMap<usize, TcpStream>, error: RanksError) -> RanksError {
    for stream in streams.values_mut() {
        let _ = say(stream, &Answer { refused: Some(error.to_string()) });
    }
    error
}

fn difference(hello: &Hello, place: &Place, facts: &BTreeMap<String, String>) -> Option<String> {
    let differs = |name: &str, theirs: &str, ours: &str| {
        let theirs = terminal::printable(theirs);
        Some(format!("{name} is {theirs} on rank {} and {ours} on rank 0", hello.rank))
    };
    if hello.version != VERSION {
        return differs("the version of the exchange", &hello.version.to_string(), &VERSION.to_string());
    }
    if hello.world != place.world {
        return differs("the number of ranks", &hello.world.to_string(), &place.world.to_string());
    }
    if !(1..place.world).contains(&hello.rank) {
        return Some(format!("there is no such rank among {} beside rank 0", place.world));
    }
    let names = facts.keys().chain(hello.facts.keys());
    let value = |facts: &BTreeMap<String, String>, name| facts.get(name).cloned().unwrap_or("not set".to_owned());
    names.into_iter().find_map(|name| match (value(&hello.facts, name), value(facts, name)) {
        (theirs, ours) if theirs != ours => differs(&terminal::printable(name), &theirs, &ours),
        _ => None,
    })
}

/// Goes to rank 0.
pub fn join(place: &Place, facts: &BTreeMap<String, String>, limits: &Limits) -> Result<TcpStream, RanksError> {
    let deadline = Instant::now() + limits.meeting;
    let hello = Hello { version: VERSION, rank: place.rank, world: place.world, facts: facts.clone() };
    loop {
        let unreachable =
            |reason| RanksError::Unreachable { address: address(place), seconds: limits.meeting.as_secs(), reason };
        let reason = match visit(place, &hello, deadline) {
            Ok((stream, Answer { refused: None })) => return Ok(stream),
            Ok((_, Answer { refused: Some(reason) })) => {
                let reason = terminal::printable(&reason);
                return Err(RanksError::TurnedAway { reason });
            }
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(unreachable(reason));
        }
        std::thread::sleep(PAUSE);
    }
}

fn visit(place: &Place, hello: &Hello, deadline: Instant) -> std::io::Result<(TcpStream, Answer)> {
    let mut last = ErrorKind::NotFound.into();
    for address in addresses(place)? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(mut stream) => {
                stream.set_write_timeout(Some(PATIENCE))?;
                say(&mut stream, hello)?;
                let answer = hear(&mut stream, deadline)?;
                return Ok((stream, answer));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn address(place: &Place) -> String {
    format!("{}:{}", terminal::printable(&place.address), place.port)
}

fn addresses(place: &Place) -> std::io::Result<Vec<SocketAddr>> {
    Ok((place.address.as_str(), place.port).to_socket_addrs()?.collect())
}

fn say(stream: &mut TcpStream, message: &impl Serialize) -> std::io::Result<()> {
    let message = serde_json::to_vec(message)?;
    let mut bytes = MAGIC.to_ne_bytes().to_vec();
    bytes.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(message);
    stream.write_all(&bytes)
}

fn hear<T: serde::de::DeserializeOwned>(stream: &mut TcpStream, deadline: Instant) -> std::io::Result<T> {
    let mut head = [0; 8];
    read_until(stream, &mut head, deadline)?;
    let ([magic, length], _) = head.as_chunks::<4>() else { return Err(ErrorKind::InvalidData.into()) };
    let length = u32::from_le_bytes(*length) as usize;
    if u32::from_ne_bytes(*magic) != MAGIC || length > MAX_BYTES {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    read_until(stream, &mut message, deadline)?;
    Ok(serde_json::from_slice(&message)?)
}

fn read_until(stream: &mut TcpStream, bytes: &mut [u8], deadline: Instant) -> std::io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut bytes[filled..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            more => filled += more,
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}
