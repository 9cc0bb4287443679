//! A panic while a graph is loaded or run becomes an error: a stranger's graph can pass every check of ours and still not be
//! one that tract, or a kernel, is ready for.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

use tract_onnx::tract_hir::internal::*;

thread_local! {
    /// Set while this thread works for [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`; if it panics, the error has the panic's words. What `work` was making is dropped.
///
/// The first call puts a panic hook before the program's own, which prints nothing for a panic that is caught here.
pub(super) fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let next = take_hook();
        set_hook(Box::new(move |panic| {
            if !GUARDED.get() {
                next(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDED.set(before);
    done.unwrap_or_else(|panic| bail!("it cannot be computed ({})", words(&*panic)))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_words() {
        let none: [u8; 0] = [];
        let error = guarded(|| Ok(std::hint::black_box(&none)[std::hint::black_box(3)])).unwrap_err();
        assert_eq!(error.to_string(), "it cannot be computed (index out of bounds: the len is 0 but the index is 3)");
        assert_eq!(guarded(|| Ok(7)).unwrap(), 7);
        assert!(!GUARDED.get());
    }
}
