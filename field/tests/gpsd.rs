//! A real gpsd, fed with a receiver's sentences, and our client to it.

use std::io::Write;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use field::gpsd::{Gpsd, GpsdError};

/// Where Debian's package has it.
const GPSD: &str = "/usr/sbin/gpsd";
/// "required" where the package must be there.
const WANTED: &str = "EDGEBLIP_RIGS";
const PATIENCE: Duration = Duration::from_secs(20);

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn gpsd_tells_place_and_time_of_a_receiver() {
    if !std::path::Path::new(GPSD).exists() {
        assert!(
            !std::env::var(WANTED).is_ok_and(|value| value == "required"),
            "{GPSD} is missing: install package gpsd"
        );
        println!("{GPSD} is missing: not tested against a real gpsd");
        return;
    }
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let source = format!("tcp://{}", receiver.local_addr().unwrap());
    let mut command = Command::new(GPSD);
    command.args(["-N", "-n", "-S", &port.to_string(), &source]).stdin(Stdio::null()).stderr(Stdio::null());
    let daemon = Daemon(command.spawn().unwrap());
    // It listens to clients before it looks for receivers.
    let (mut receiver, _) = receiver.accept().unwrap();
    let mut gpsd = Gpsd::connect(&format!("localhost:{port}"), PATIENCE).unwrap();

    let start = std::time::Instant::now();
    // What a receiver says before gpsd has understood what we want is lost: it says it again.
    let next_fix = || {
        receiver.write_all(include_bytes!("goldens/receiver.nmea")).unwrap();
        gpsd.next_fix(Duration::from_secs(1)).unwrap()
    };
    let fix = std::iter::repeat_with(next_fix)
        .take_while(|_| start.elapsed() < PATIENCE)
        .flatten()
        .find(|fix| fix.coordinates.is_some() && fix.wall_ms.is_some())
        .unwrap();
    let place = fix.coordinates.unwrap().rounded(4);
    assert_eq!((place.latitude(), place.longitude()), (52.52, -13.405));
    // `date -u -d '2026-11-26 04:30:01' +%s`, and the seconds after it.
    let seconds = fix.wall_ms.unwrap() / 1000 - 1_795_667_401;
    assert!((0..10).contains(&seconds), "{seconds}");
    assert_eq!(gpsd.garbage(), 0);

    drop(daemon);
    let gone = std::iter::repeat_with(|| gpsd.next_fix(PATIENCE)).find_map(Result::err).unwrap();
    assert!(matches!(gone, GpsdError::Gone { .. }), "{gone}");
    assert!(matches!(Gpsd::connect(&format!("localhost:{port}"), PATIENCE), Err(GpsdError::Connect { .. })));
}
