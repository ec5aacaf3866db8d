//! Polynomials that the printers share, the highest power first.

/// erf x / x − 1 by x², for |x| below 1: to 2⁻²⁹, fitted to the least largest relative error.
pub(crate) const ERF_SMALL: [f64; 7] =
    [7.853857707e-5, -8.010192521e-4, 5.18832756e-3, -2.685381187e-2, 1.128358515e-1, -3.761262582e-1, 1.283791657e-1];

/// −ln (1 − erf x) from 1 to [`ERF_END`], fitted to the least largest error of erf: 2⁻³⁵.
pub(crate) const ERF_LARGE: [f64; 8] =
    [2.168684715e-5, -4.413363382e-4, 4.204561649e-3, -2.520825603e-2, 1.08418576e-1, 6.332198945e-1, 1.129578423, -1.880400293e-4];

/// From here on erf is 1 to the last bit.
pub(crate) const ERF_END: f64 = 4.05;
