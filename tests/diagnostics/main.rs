//! What the compiler says: one fixture, one mistake. `README.md` beside this file says what a good message is.

#[test]
fn mistakes_are_explained_at_the_right_place() {
    let fixtures = trybuild::TestCases::new();
    fixtures.compile_fail("diagnostics/fail/*.rs");
    fixtures.pass("diagnostics/pass/*.rs");
}
