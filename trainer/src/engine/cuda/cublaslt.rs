//! Products by cuBLASLt.
//!
//! cuBLASLt counts by column. A matrix by row is its own transpose by column, and `out = left right` means
//! `outᵀ = rightᵀ leftᵀ`: so the right factor is handed over as the first one and the left factor as the second, rows and
//! columns exchange their names, and nothing is moved. A bias has a value for each row of cuBLASLt's result, which is a
//! column of ours.

use std::collections::HashMap;
use std::ffi::c_void;

use cudarc::cublaslt::{result, sys};
use cudarc::driver::sys::CUstream;

use super::driver::{Address, Before, Element, Multiplied, Product, Stored};

/// Bytes of working memory: what NVIDIA recommends for Hopper, and enough for older ones.
pub(super) const WORKSPACE: usize = 32 << 20;
/// `CUBLAS_OP_N` of `cublas_api.h`.
const AS_IT_IS: i32 = 0;
/// `CUBLAS_OP_T`.
const TRANSPOSED: i32 = 1;
/// Alignments above this make no difference.
const MOST_ALIGNMENT: u64 = 256;

/// What an algorithm is chosen for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    sizes: [usize; 3],
    stored: [Stored; 2],
    elements: [Element; 2],
    before: Before,
    with_bias: bool,
    alignments: [u64; 3],
}

/// A product's description and its algorithm.
struct Plan {
    description: sys::cublasLtMatmulDesc_t,
    left: sys::cublasLtMatrixLayout_t,
    right: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: Option<sys::cublasLtMatmulAlgo_t>,
}

/// cuBLASLt on one stream.
pub(super) struct CublasLt {
    handle: sys::cublasLtHandle_t,
    workspace: Address,
    plans: HashMap<Key, Plan>,
}

type Result<T> = std::result::Result<T, result::CublasError>;

fn alignment(address: Address) -> u64 {
    (1 << address.trailing_zeros().min(63)).min(MOST_ALIGNMENT)
}

fn data_type(element: Element) -> sys::cudaDataType {
    match element {
        Element::F32 => sys::cudaDataType::CUDA_R_32F,
        Element::Bf16 => sys::cudaDataType::CUDA_R_16BF,
    }
}

impl CublasLt {
    /// `workspace`: [`WORKSPACE`] bytes that live as long.
    pub(super) fn new(workspace: Address) -> Result<CublasLt> {
        Ok(CublasLt { handle: result::create_handle()?, workspace, plans: HashMap::new() })
    }

    /// # Safety
    /// What the product names lies within allocations, and the workspace is still there.
    pub(super) unsafe fn multiply(&mut self, product: &Product, stream: CUstream) -> Result<Multiplied> {
        let key = Key {
            sizes: [product.rows, product.columns, product.inner],
            stored: [product.left.stored, product.right.stored],
            elements: [product.element, product.out_element],
            before: product.before,
            with_bias: product.bias.is_some(),
            alignments: [product.left.at, product.right.at, product.out].map(alignment),
        };
        if !self.plans.contains_key(&key) {
            // SAFETY: the description outlives the call.
            let plan = unsafe { Plan::new(self.handle, product, &key) }?;
            self.plans.insert(key, plan);
        }
        let plan = &self.plans[&key];
        let Some(algorithm) = &plan.algorithm else { return Ok(Multiplied::Unsupported) };
        let one = 1.0f32;
        let beta = if product.before == Before::Added { 1.0f32 } else { 0.0 };
        // SAFETY: descriptions live as long as the plans; the rest is the caller's promise.
        unsafe {
            if let Some(bias) = product.bias {
                plan.set_bias(bias)?;
            }
            result::matmul(
                self.handle,
                plan.description,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                product.right.at as *const c_void,
                plan.left,
                product.left.at as *const c_void,
                plan.right,
                product.out as *const c_void,
                plan.out,
                product.out as *mut c_void,
                plan.out,
                algorithm,
                self.workspace as *mut c_void,
                WORKSPACE,
                stream.cast(),
            )?;
        }
        Ok(Multiplied::Yes)
    }
}

impl Drop for CublasLt {
    fn drop(&mut self) {
        self.plans.clear();
        // SAFETY: made in `new`, destroyed here only. That it fails at the end of a program helps nobody.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}

impl Plan {
    /// # Safety
    /// The handle is alive.
    unsafe fn new(handle: sys::cublasLtHandle_t, product: &Product, key: &Key) -> Result<Plan> {
        let [rows, columns, inner] = key.sizes;
        let input = data_type(product.element);
        let description =
            result::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F)?;
        let layout = |stored_rows: usize, stored_columns: usize, of: sys::cudaDataType| {
            result::create_matrix_layout(of, stored_rows as u64, stored_columns as u64, stored_rows as i64)
        };
        let left = match product.right.stored {
            Stored::ByRow => layout(columns, inner, input)?,
            Stored::ByColumn => layout(inner, columns, input)?,
        };
        let right = match product.left.stored {
            Stored::ByRow => layout(inner, rows, input)?,
            Stored::ByColumn => layout(rows, inner, input)?,
        };
        let out = layout(columns, rows, data_type(product.out_element))?;
        let mut plan = Plan { description, left, right, out, algorithm: None };
        // SAFETY: all descriptions have just been made.
        unsafe {
            plan.describe(product)?;
            plan.algorithm = plan.choose(handle, key)?;
        }
        Ok(plan)
    }

    /// # Safety
    /// The description is alive.
    unsafe fn describe(&self, product: &Product) -> Result<()> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let operation = |stored: Stored| -> i32 {
            match stored {
                Stored::ByRow => AS_IT_IS,
                Stored::ByColumn => TRANSPOSED,
            }
        };
        // SAFETY: each attribute is given a value of its own size.
        unsafe {
            self.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &operation(product.right.stored))?;
            self.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &operation(product.left.stored))?;
            let Some(bias) = product.bias else { return Ok(()) };
            let epilogue = sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS as u32;
            self.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
            let held = data_type(product.out_element) as i32;
            self.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, &held)?;
            self.set_bias(bias)
        }
    }

    /// # Safety
    /// The description is alive.
    unsafe fn set_bias(&self, bias: Address) -> Result<()> {
        // SAFETY: the attribute is a pointer.
        unsafe { self.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias) }
    }

    /// # Safety
    /// The description is alive, and the attribute is of this type.
    unsafe fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
        // SAFETY: as the caller says; the value is copied.
        unsafe {
            result::set_matmul_desc_attribute(self.description, attribute, (&raw const *value).cast(), size_of::<T>())
        }
    }

    /// The algorithm that cuBLASLt thinks the fastest; none where it has none.
    ///
    /// # Safety
    /// The handle and all descriptions are alive.
    unsafe fn choose(&self, handle: sys::cublasLtHandle_t, key: &Key) -> Result<Option<sys::cublasLtMatmulAlgo_t>> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let [left, right, out] = key.alignments.map(|alignment| alignment as u32);
        let (preference, workspace) = (result::create_matmul_pref()?, WORKSPACE);
        let number = |attribute: Attribute, value: u32| {
            // SAFETY: the attribute is a 32-bit number, and the preference is alive.
            unsafe { result::set_matmul_pref_attribute(preference, attribute, (&raw const value).cast(), 4) }
        };
        // SAFETY: the attribute is a size, and everything handed over is alive.
        let found = unsafe {
            let room = Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
            result::set_matmul_pref_attribute(preference, room, (&raw const workspace).cast(), size_of::<usize>())
                .and_then(|()| number(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, right))
                .and_then(|()| number(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, left))
                .and_then(|()| number(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, out))
                .and_then(|()| number(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, out))
                .and_then(|()| {
                    result::get_matmul_algo_heuristic(
                        handle,
                        self.description,
                        self.left,
                        self.right,
                        self.out,
                        self.out,
                        preference,
                    )
                })
        };
        // SAFETY: made above, destroyed here only.
        unsafe { result::destroy_matmul_pref(preference) }?;
        match found {
            Ok(found) => Ok(Some(found.algo)),
            Err(result::CublasError(sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED)) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

impl Drop for Plan {
    fn drop(&mut self) {
        // SAFETY: made in `new`, destroyed here only. That it fails at the end of a program helps nobody.
        let _ = unsafe { result::destroy_matmul_desc(self.description) };
        for layout in [self.left, self.right, self.out] {
            // SAFETY: as above.
            let _ = unsafe { result::destroy_matrix_layout(layout) };
        }
    }
}
