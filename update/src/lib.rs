//! Releases taken up by a board.
