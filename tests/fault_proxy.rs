//! A network between a board and its host that does everything wrong, by a seed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Result;
use rustix::net::sockopt::set_socket_linger;

/// How long a stalled connection is held: longer than anybody in a test waits, shorter than a test.
const STALL: Duration = Duration::from_millis(1500);
/// Bytes that are passed on at once.
const PIECE: usize = 4096;

/// What a connection meets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Nothing.
    None,
    /// It ends in order after so many bytes.
    Cut,
    /// It is reset after so many bytes.
    Reset,
    /// Nothing more comes after so many bytes.
    Stall,
    /// A bit is another.
    Corrupt,
    /// What the board says reaches the host twice.
    Duplicate,
    /// The answer's length is another than it says.
    WrongLength,
    /// The gate of a network answers in the host's place.
    Gate,
    /// The host says this, and nothing happened.
    Status(u16),
    /// What answers is no HTTP, as when TLS is spoken to what speaks none.
    Gibberish,
}

impl Fault {
    const ALL: [Fault; 12] = [
        Fault::None,
        Fault::Cut,
        Fault::Reset,
        Fault::Stall,
        Fault::Corrupt,
        Fault::Duplicate,
        Fault::WrongLength,
        Fault::Gate,
        Fault::Status(403),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Gibberish,
    ];
}

/// Where in a stream of bytes it happens: before anything, in the head, in the body, at its end.
const PLACES: [usize; 6] = [0, 1, 180, 700, 2500, 40_000];

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Out,
    Back,
}

/// A place that passes on what it is told, badly.
pub struct FaultProxy {
    address: SocketAddr,
    works: Arc<AtomicBool>,
    met: Arc<Mutex<Vec<Fault>>>,
}

impl FaultProxy {
    /// Between whoever connects and `host`.
    pub fn before(host: SocketAddr, seed: u64) -> Result<FaultProxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let (works, met) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (is_mended, seen) = (Arc::clone(&works), Arc::clone(&met));
        let number = AtomicU64::new(0);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let drawn = draw(seed, number.fetch_add(1, Ordering::Relaxed));
                let fault = if is_mended.load(Ordering::Relaxed) { Fault::None } else { chosen(&Fault::ALL, drawn) };
                if let Ok(mut seen) = seen.lock() {
                    seen.push(fault);
                }
                let at = chosen(&PLACES, drawn >> 8);
                let way = if (drawn >> 16).is_multiple_of(2) { Way::Out } else { Way::Back };
                std::thread::spawn(move || drop(serve(client, host, fault, at, way)));
            }
        });
        Ok(FaultProxy { address, works, met })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From here on everything works.
    pub fn mend(&self) {
        self.works.store(true, Ordering::Relaxed);
    }

    /// What connections met with, each kind once.
    pub fn met(&self) -> Vec<Fault> {
        let mut met = self.met.lock().map(|met| met.clone()).unwrap_or_default();
        met.sort_unstable();
        met.dedup();
        met
    }
}

/// Numbers that differ from each other: splitmix64.
fn draw(seed: u64, number: u64) -> u64 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(number.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

fn chosen<T: Copy>(from: &[T], drawn: u64) -> T {
    from[drawn as usize % from.len()]
}

fn serve(mut client: TcpStream, host: SocketAddr, fault: Fault, at: usize, way: Way) -> std::io::Result<()> {
    let answer = match fault {
        Fault::Gate => Some(page(200, "<html><title>Welcome</title><form>Please log in</form></html>", "")),
        Fault::Status(503) => Some(page(503, "busy", "Retry-After: 0\r\n")),
        Fault::Status(status) => Some(page(status, "no", "")),
        Fault::Gibberish => Some(b"\x15\x03\x01\x00\x02\x02\x50".to_vec()),
        _ => None,
    };
    if let Some(answer) = answer {
        // Some of the question, as a gate reads it.
        let mut piece = [0; PIECE];
        let _ = client.read(&mut piece)?;
        client.write_all(&answer)?;
        return client.shutdown(Shutdown::Write);
    }
    let server = TcpStream::connect(host)?;
    let second = if fault == Fault::Duplicate { Some(TcpStream::connect(host)?) } else { None };
    let there = Pipe { from: client.try_clone()?, to: server.try_clone()?, copy: second, way: Way::Out };
    let back = Pipe { from: server, to: client, copy: None, way: Way::Back };
    let out = std::thread::spawn(move || there.run(fault, at, way));
    back.run(fault, at, way);
    drop(out.join());
    Ok(())
}

fn page(status: u16, body: &str, more: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status} x\r\nContent-Type: text/html\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// One way of a connection.
struct Pipe {
    from: TcpStream,
    to: TcpStream,
    copy: Option<TcpStream>,
    way: Way,
}

impl Pipe {
    fn run(mut self, fault: Fault, at: usize, way: Way) {
        let is_here = self.way == way;
        let mut passed = 0;
        let mut piece = [0; PIECE];
        loop {
            let count = match self.from.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            let mut bytes = piece[..count].to_vec();
            let is_reached = passed + count > at;
            match fault {
                Fault::Cut | Fault::Reset | Fault::Stall if is_here && is_reached => {
                    drop(self.to.write_all(&bytes[..at.saturating_sub(passed)]));
                    return self.end(fault);
                }
                Fault::Corrupt if is_here && is_reached && at >= passed => bytes[at - passed] ^= 0x10,
                Fault::WrongLength if self.way == Way::Back && passed == 0 => bytes = lengthened(&bytes),
                _ => {}
            }
            passed += count;
            if let Some(copy) = &mut self.copy {
                drop(copy.write_all(&bytes));
            }
            if self.to.write_all(&bytes).is_err() {
                break;
            }
        }
        drop(self.to.shutdown(Shutdown::Write));
    }

    fn end(&self, fault: Fault) {
        match fault {
            Fault::Stall => std::thread::sleep(STALL),
            Fault::Reset => {
                for stream in [&self.from, &self.to] {
                    let _ = set_socket_linger(stream, Some(Duration::ZERO));
                }
            }
            _ => {}
        }
        drop(self.from.shutdown(Shutdown::Both));
        drop(self.to.shutdown(Shutdown::Both));
    }
}

/// An answer that promises a byte more than it has.
fn lengthened(answer: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer).to_lowercase();
    let Some(start) = text.find("content-length: ").map(|start| start + "content-length: ".len()) else {
        return answer.to_vec();
    };
    let digits = answer[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length: u64 = text[start..start + digits].parse().unwrap_or(0);
    [&answer[..start], (length + 1).to_string().as_bytes(), &answer[start + digits..]].concat()
}
