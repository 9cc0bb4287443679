//! A host with all its parts, and boards that are played.

mod scene;
mod curation;
mod deletion;
mod versions;
mod backup;
