//! How long others are waited for.

use std::error::Error;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// How long others are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until a request's head or TLS' greeting is there, between two requests, and between two pieces of a body in either direction.
    pub quiet: Duration,
    /// What each KiB of a request's body may take on top of that, which is how long boards wait themselves.
    pub for_a_kib: Duration,
    /// What is under way may take so long when the host stops.
    pub last: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            quiet: Duration::from_secs(30),
            for_a_kib: Duration::from_millis(250),
            last: Duration::from_secs(10),
        }
    }
}

/// A body that comes as fast as boards send, or breaks.
pub(crate) struct Patient<B> {
    body: B,
    patience: Patience,
    began: Instant,
    received: u64,
    end: Pin<Box<Sleep>>,
}

impl<B> Patient<B> {
    pub(crate) fn new(body: B, patience: Patience) -> Patient<B> {
        let end = Box::pin(sleep(patience.quiet));
        Patient { body, patience, began: Instant::now(), received: 0, end }
    }

    /// Until when the next piece must come.
    fn end(&self) -> Instant {
        let Patience { quiet, for_a_kib, .. } = self.patience;
        let kibibytes = u32::try_from(self.received >> 10).unwrap_or(u32::MAX);
        (self.began + quiet + for_a_kib.saturating_mul(kibibytes)).min(Instant::now() + quiet)
    }
}

impl<B> Body for Patient<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Unpin,
{
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match pin!(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.received += frame.data_ref().map_or(0, |data| data.len() as u64);
                let end = self.end();
                self.end.as_mut().reset(end);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(io::Error::other(error)))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => self.end.as_mut().poll(context).map(|()| {
                Some(Err(io::Error::new(io::ErrorKind::TimedOut, "the body does not come, or byte by byte")))
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// How long what still comes is read after the last answer. Hanging up on it would take the answer away from whoever is still sending.
const LINGER: Duration = Duration::from_secs(2);

/// A connection that breaks when the other side takes nothing of what is sent for too long, and ends so that the last answer is heard.
pub(crate) struct Unstalled<T> {
    stream: T,
    quiet: Duration,
    /// Until when it is waited for; nothing while it takes all.
    stalled: Option<Pin<Box<Sleep>>>,
    /// Until when what comes is thrown away; nothing before the end.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<T> Unstalled<T> {
    pub(crate) fn new(stream: T, quiet: Duration) -> Unstalled<T> {
        Unstalled { stream, quiet, stalled: None, lingering: None }
    }

    /// What a write came to, unless it has been waiting for too long.
    fn watched<V>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<V>>) -> Poll<io::Result<V>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let quiet = self.quiet;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(quiet)));
        stalled.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Unstalled<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_read(context, buffer)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Unstalled<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write(context, bytes);
        self.watched(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = pin!(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = pin!(&mut self.stream).poll_flush(context);
        self.watched(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            let shut = pin!(&mut self.stream).poll_shutdown(context);
            ready!(self.watched(context, shut))?;
        }
        let Unstalled { stream, lingering, .. } = &mut *self;
        let lingering = lingering.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scrap = [0; 16 << 10];
        while lingering.as_mut().poll(context).is_pending() {
            let mut scrap = ReadBuf::new(&mut scrap);
            match ready!(pin!(&mut *stream).poll_read(context, &mut scrap)) {
                Ok(()) if !scrap.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
