//! Batches, decoded on threads ahead of the device.
