//! The operations that BLIP needs, forward and backward, on a device.
