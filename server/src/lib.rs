//! The host's own place: a subset of S3 over a careful folder.
