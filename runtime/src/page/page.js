// Keeps the first page fresh. Everything works without it.
"use strict";
(() => {
  const sight = document.getElementById("sight");
  const picture = document.getElementById("picture");
  if (!sight) return;
  const live = document.getElementById("live");
  const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  const part = async (id, from) => {
    const answer = await fetch(from);
    if (!answer.ok) return;
    const parsed = new DOMParser().parseFromString(`<${id === "scores" ? "table" : "dl"}>${await answer.text()}`, "text/html");
    document.getElementById(id).replaceChildren(...parsed.body.firstElementChild.childNodes);
  };
  let isLive = false;
  const follow = async () => {
    for (;;) {
      await wait(isLive ? 1000 : 2000);
      if (document.hidden) continue;
      try {
        const state = await (await fetch("/state")).json();
        const { look } = state;
        if (look && look.number !== Number(sight.dataset.number)) {
          if (!picture) { location.reload(); return; }
          sight.dataset.number = look.number;
          document.getElementById("caption").textContent = look.caption ?? "no caption";
          document.getElementById("verdict").textContent = `${look.fate}, taken by ${look.trigger}`;
          picture.alt = look.caption ?? "";
          if (!isLive) picture.src = `/look.jpg?${look.number}`;
          await part("scores", "/parts/scores");
        }
        if (isLive) picture.src = `/live.jpg?${Date.now()}`;
        await part("health", "/parts/health");
      } catch {
        // The board is away; it is asked again.
      }
    }
  };
  if (live && picture) {
    live.hidden = false;
    live.addEventListener("click", () => {
      isLive = !isLive;
      live.textContent = isLive ? "Last look" : "Live picture";
      picture.src = isLive ? `/live.jpg?${Date.now()}` : `/look.jpg?${sight.dataset.number}`;
    });
  }
  follow();
})();
