"use strict";
(() => {
  const icons = {
    play: "M3 1.5v13l11-6.5z",
    pause: "M3 2h4v12H3zM9 2h4v12H9z",
    muted: "M1 5.5h3l4-4v13l-4-4H1zM10 5l5 6M15 5l-5 6",
    loud: "M1 5.5h3l4-4v13l-4-4H1zM10.5 5q3 3 0 6M12.5 3q5 5 0 10",
  };
  const draw = (button, icon, label) => {
    const stroke = icon === "muted" || icon === "loud" ? ' stroke="currentColor" stroke-width="1.3"' : "";
    button.innerHTML = `<svg viewBox="0 0 16 16" aria-hidden="true"><path d="${icons[icon]}"${stroke}/></svg>`;
    button.setAttribute("aria-label", label);
  };

  for (const video of document.querySelectorAll(".screen video")) {
    const screen = video.parentElement;
    const name = video.getAttribute("aria-label");
    const play = document.createElement("button");
    const bar = document.createElement("progress");
    video.controls = false;
    video.tabIndex = -1;
    play.type = "button";
    play.className = "play";
    bar.max = 1;
    bar.value = 0;
    bar.setAttribute("aria-hidden", "true");
    screen.append(play, bar);
    draw(play, "play", `Play ${name}`);
    play.addEventListener("click", () => {
      if (video.paused) {
        video.play().catch(() => draw(play, "play", `This browser cannot play ${name}`));
      } else {
        video.pause();
      }
    });
    video.addEventListener("play", () => { screen.classList.add("playing"); draw(play, "pause", `Pause ${name}`); });
    video.addEventListener("pause", () => { screen.classList.remove("playing"); draw(play, "play", `Play ${name}`); });
    video.addEventListener("timeupdate", () => { bar.value = video.duration ? video.currentTime / video.duration : 0; });
    if (video.dataset.sound === "1") {
      const sound = document.createElement("button");
      sound.type = "button";
      sound.className = "sound";
      draw(sound, "muted", `Turn the sound on: ${name}`);
      sound.addEventListener("click", () => {
        video.muted = !video.muted;
        draw(sound, video.muted ? "muted" : "loud", `Turn the sound ${video.muted ? "on" : "off"}: ${name}`);
      });
      screen.append(sound);
    }
  }

  const list = document.querySelector(".cards");
  const form = document.querySelector(".filters");
  if (!list || !form) return;
  const cards = [...list.children];
  const first = Number(list.dataset.first);
  const more = document.querySelector(".more button");
  let all = cards.length <= first;

  const show = () => {
    const words = form.elements.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const selects = [...form.querySelectorAll("select")].filter((select) => select.value);
    let found = 0;
    for (const card of cards) {
      const tags = JSON.parse(card.dataset.tags);
      const fits = words.every((word) => card.dataset.text.includes(word))
        && selects.every((select) => tags[select.name] === select.value);
      found += fits ? 1 : 0;
      card.classList.toggle("out", !fits);
      card.classList.toggle("folded", fits && !all && found > first);
      if (!fits) card.querySelectorAll("video").forEach((video) => video.pause());
    }
    form.querySelector("output").textContent = `${found} of ${cards.length} shown pairs fit`;
    more.hidden = all || found <= first;
    more.textContent = `Show all ${found}`;
  };
  form.hidden = false;
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => { all = true; show(); });
  show();
})();
