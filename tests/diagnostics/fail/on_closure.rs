use session_refresh::session_refresh;

fn main() {
    let _handler = #[session_refresh]
    || async {};
}
