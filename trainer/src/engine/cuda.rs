//! NVIDIA GPUs: cuBLASLt for products, kernels compiled at run time by NVRTC, NCCL between devices.
