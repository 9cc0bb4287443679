//! Everything that a run needs to go on after it was killed.
