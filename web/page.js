// The screen of a machine. What speaks the protocol is noVNC; this is the page around it.
import RFB from "./novnc/core/rfb.js";
import keysyms from "./novnc/core/input/keysymdef.js";

const at = id => document.getElementById(id);
const enter = 0xff0d, backspace = 0xff08;
let rfb, password, isIn = false, reason = "";

function show(state) { at("state").textContent = state; }

function connect() {
    show("connecting …");
    reason = "";
    isIn = false;
    const here = new URL("vnc", location.href);
    here.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    here.search = here.hash = "";
    rfb = new RFB(at("screen"), here.href, { shared: true, credentials: { password } });
    rfb.scaleViewport = isFitted();
    rfb.background = "#0c0e11";
    rfb.addEventListener("connect", () => {
        isIn = true;
        show("connected");
        enable(true);
        rfb.focus();
    });
    rfb.addEventListener("disconnect", event => end(event.detail.clean));
    rfb.addEventListener("credentialsrequired", () => at("ask").showModal());
    rfb.addEventListener("securityfailure", event => { reason = event.detail.reason ?? "not allowed"; });
    rfb.addEventListener("desktopname", event => {
        at("name").textContent = document.title = event.detail.name;
    });
    rfb.addEventListener("capabilities", event => { at("power").hidden = !event.detail.capabilities.power; });
}

function enable(isOn) {
    at("keys").disabled = at("keyboard").disabled = !isOn;
    if (!isOn) at("power").hidden = true;
}

function end(isClean) {
    enable(false);
    show("not connected");
    password = undefined;
    at("why").textContent = reason ? `The machine refused: ${reason}.`
        : isClean ? "The connection has ended."
        : isIn ? "The machine has been switched off, or the way to it is interrupted."
        : "The machine does not answer, or another viewer keeps its screen to itself.";
    at("ended").showModal();
}

const isFitted = () => at("scale").getAttribute("aria-pressed") === "true";

at("ask").addEventListener("close", () => {
    password = at("password").value;
    at("password").value = "";
    rfb.sendCredentials({ password });
});
at("ended").addEventListener("close", connect);
at("keys").addEventListener("click", () => { rfb.sendCtrlAltDel(); rfb.focus(); });
at("scale").addEventListener("click", () => {
    at("scale").setAttribute("aria-pressed", String(!isFitted()));
    rfb.scaleViewport = isFitted();
    rfb.clipViewport = !isFitted();
    rfb.dragViewport = false;
    rfb.focus();
});
at("full").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else document.body.requestFullscreen().then(() => rfb.focus());
});
at("shutdown").addEventListener("click", () => { if (confirm("Press the power button?")) rfb.machineShutdown(); });
at("reset").addEventListener("click", () => { if (confirm("Reset the machine at once?")) rfb.machineReset(); });

// A phone's keyboard types into a field that nobody sees; its text goes on as keys.
at("keyboard").addEventListener("click", () => at("typed").focus());
at("typed").addEventListener("beforeinput", event => {
    event.preventDefault();
    if (event.inputType === "deleteContentBackward") rfb.sendKey(backspace, "Backspace");
    else if (event.inputType === "insertLineBreak") rfb.sendKey(enter, "Enter");
    else for (const character of event.data ?? "") rfb.sendKey(keysyms.lookup(character.codePointAt(0)));
});

connect();
