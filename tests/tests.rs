//! What crosses the crates, in the order of the data's flow.

mod bundles;
mod caches;
mod tidy;
mod pixels;
mod transformers;
mod formats;
mod int8;
mod operators;
mod command_line;
mod bad_input;
mod boards;
mod way_home;
mod fault_proxy;
mod served;
mod updates;
