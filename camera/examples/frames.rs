//! Says what a source gives, a line a frame: `frames SOURCE [FRAMES [SECONDS]]`.

use std::error::Error;
use std::time::{Duration, Instant};

use camera::{Camera, Next, Options};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let source = arguments.next().ok_or("usage: frames SOURCE [FRAMES [SECONDS]]")?.parse()?;
    let frames: u64 = arguments.next().map_or(Ok(10), |frames| frames.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(30), |seconds| seconds.parse())?;

    let camera = Camera::start(source, Options::default())?;
    let deadline = Instant::now() + Duration::from_secs(seconds);
    for _ in 0..frames {
        let Next::Frame(frame) = camera.next(deadline) else { break };
        let picture = frame.to_rgb()?;
        let (width, height, jpeg) = (picture.width(), picture.height(), frame.jpeg()?.len());
        let sums = picture
            .values()
            .as_chunks::<3>()
            .0
            .iter()
            .fold([0_u64; 3], |sums, pixel| [0, 1, 2].map(|channel| sums[channel] + u64::from(pixel[channel])));
        let [red, green, blue] = sums.map(|sum| sum / (width * height) as u64);
        println!(
            "{} of {}: {width} x {height} pixels, mean colour {red} {green} {blue}, {jpeg} bytes",
            frame.sequence, frame.origin
        );
    }
    println!("{:?}", camera.state());
    println!("{:?}", camera.counts());
    Ok(())
}
