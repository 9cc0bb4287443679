//! A body that goes out no faster than it may.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that go out at once.
const PIECE: usize = 16 << 10;

/// Bytes, in pieces, each at its time.
pub(crate) struct Paced {
    bytes: Bytes,
    /// Bytes a second; nothing for as fast as can be.
    rate: Option<u64>,
    next: Instant,
    sleep: Pin<Box<Sleep>>,
}

impl Paced {
    pub(crate) fn new(bytes: Bytes, rate: Option<u64>) -> Paced {
        let next = Instant::now();
        Paced { bytes, rate: rate.filter(|rate| *rate > 0), next, sleep: Box::pin(sleep_until(next)) }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.bytes.is_empty() {
            return Poll::Ready(None);
        }
        let Some(rate) = self.rate else {
            let all = std::mem::take(&mut self.bytes);
            return Poll::Ready(Some(Ok(Frame::data(all))));
        };
        ready!(self.sleep.as_mut().poll(cx));
        let length = self.bytes.len().min(PIECE);
        let piece = self.bytes.split_to(length);
        self.next += Duration::from_secs_f64(length as f64 / rate as f64);
        let next = self.next;
        self.sleep.as_mut().reset(next);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.len() as u64)
    }
}
