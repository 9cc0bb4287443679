//! MJPEG on standard input.

use rustix::io::Errno;
use rustix::stdio::stdin;

use super::{Capture, Context, Fed, Feed, READ_BYTES};
use crate::error::CameraError;
use crate::frame::Image;
use crate::mjpeg::Splitter;
use crate::stop::Waited;

pub(super) struct StandardInput {
    splitter: Splitter,
    buffer: Vec<u8>,
}

impl StandardInput {
    pub fn new(context: &Context) -> Self {
        Self { splitter: Splitter::new(context.limits.jpeg_bytes), buffer: vec![0; READ_BYTES] }
    }
}

impl Feed for StandardInput {
    fn next(&mut self, context: &Context) -> Result<Fed, CameraError> {
        let patience = context.patience(None);
        loop {
            let picture = self.splitter.next_picture();
            context.skip(self.splitter.take_skipped());
            if let Some(picture) = picture {
                return Ok(Fed::Capture(Capture::from(Image::Jpeg(picture))));
            }
            let fault = |error| CameraError::Read { what: "standard input".to_owned(), error };
            match context.stop.readable(stdin(), patience).map_err(fault)? {
                Waited::Stopped => return Err(CameraError::Stopped),
                Waited::Late => return Err(patience.silent(String::new())),
                Waited::Readable | Waited::Ended => {}
            }
            match rustix::io::read(stdin(), &mut self.buffer) {
                Ok(0) => return Ok(Fed::End(None)),
                Ok(count) => self.splitter.push(&self.buffer[..count]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(fault(error.into())),
            }
        }
    }

    /// It cannot be opened again, and what was read of it is here.
    fn survives(&self) -> bool {
        true
    }
}
