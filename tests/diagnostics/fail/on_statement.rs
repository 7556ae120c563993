use session_refresh::session_refresh;

fn main() {
    #[session_refresh]
    let _handler = || async {};
}
