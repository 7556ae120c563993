//! What the compiler says: one fixture, one mistake. `README.md` beside this file says what a good message is.

use trybuild::TestCases;

// Fixtures that all fail are checked by one run of cargo, and nothing is linked for them.

#[test]
fn mistakes_are_explained_at_the_right_place() {
    TestCases::new().compile_fail("fail/*.rs");
}

#[test]
#[cfg_attr(
    with_rust_src,
    ignore = "rust-src is installed, so messages that pass through `std` read otherwise"
)]
fn so_are_those_whose_message_passes_through_the_standard_library() {
    TestCases::new().compile_fail("fail_in_std/*.rs");
}
