//! Captions the newest frame of a camera, again and again: a slow model drops frames, and the camera counts them.
//!
//! `cargo run --release -p edgeblip-examples --example caption_a_camera -- v4l:/dev/video0`
//! `ffmpeg ... -f mjpeg - | cargo run --release -p edgeblip-examples --example caption_a_camera -- -`

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use blip::config::Role;
use camera::{Camera, Next, Options, Source};
use edgeblip::bundle::Bundle;
use edgeblip::decoder::Writing;
use edgeblip::model::Model;

fn main() -> Result<()> {
    let source: Source = std::env::args().nth(1).context("name a camera, as v4l:/dev/video0")?.parse()?;
    let bundle = Bundle::built_in().context("opening the built-in bundle")?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let model = Model::load(Arc::new(bundle), &[Role::Captioner], threads).context("loading the captioner")?;
    let captioner = model.captioner()?;
    let facts = captioner.facts();
    let writing = Writing { prompt: facts.prompt.clone(), options: facts.decoding, seed: 0, texts: 1 };

    let camera = Camera::start(source, Options::default()).context("starting the camera")?;
    loop {
        let frame = match camera.next(Instant::now() + Duration::from_secs(10)) {
            Next::Frame(frame) => frame,
            Next::Nothing => {
                eprintln!("no frame: {:?}", camera.state());
                continue;
            }
            Next::Finished => break,
        };
        let mut view = model.see(&frame.to_rgb().context("decoding a frame")?).context("looking at a frame")?;
        for caption in captioner.describe(&mut view, &writing).context("writing a caption")? {
            println!("frame {}: {}", frame.sequence, caption.text);
        }
    }
    let counts = camera.counts();
    eprintln!("{} frames, {} captioned, {} dropped", counts.captured, counts.delivered, counts.replaced + counts.paced);
    Ok(())
}
