"use strict";
(() => {
  const find = (selector) => document.querySelector(selector);
  const news = find("#news");
  const tell = (text, failed = false) => {
    news.textContent = text;
    news.classList.toggle("failed", failed);
    news.hidden = !text;
  };

  const send = async (path, body) => {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
  const tried = (work) => work.catch((error) => tell(error.message || "The server does not answer.", true));

  // what a decision changes is taken from the page as the server now writes it
  const renew = async (...selectors) => {
    const text = await (await fetch(location.href)).text();
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const selector of selectors) {
      const [there, here] = [page.querySelector(selector), find(selector)];
      if (there && here) here.replaceWith(document.importNode(there, true));
    }
    prepare();
  };

  const media = () => [...document.querySelectorAll("#item video, #item audio")];
  const fragment = (player) => Number((player.currentSrc.match(/#t=([\d.]+)/) || [0, 0])[1]);
  const playAll = () => {
    const players = media();
    if (!players.length) return;
    if (players.some((player) => !player.paused)) {
      players.forEach((player) => player.pause());
      return;
    }
    const over = players.every((player) => player.ended || player.currentTime >= player.duration);
    players.forEach((player, number) => {
      if (over || players.some((other) => other.ended)) player.currentTime = fragment(player);
      player.muted = number > 0;
      player.play().catch(() => undefined);
    });
  };

  const pairId = () => find("[data-pair]")?.dataset.pair;
  const act = (action) => tried((async () => {
    await send("/decide", { id: pairId(), action });
    tell("");
    // an undone edit changes the texts; otherwise the media play on
    await renew("#tally", ".rows", ...(action === "undo" ? ["#item"] : ["#actions", ".about"]));
  })());

  const edit = (on) => {
    document.body.classList.toggle("editing-text", on);
    for (const side of document.querySelectorAll(".side")) {
      side.querySelector(".text").hidden = on;
      const area = side.querySelector("textarea");
      if (!area) return;
      area.hidden = !on;
      if (!on) area.value = area.defaultValue;
      area.style.height = on ? `${area.scrollHeight + 4}px` : "";
    }
    if (!on) return;
    find(".side textarea").focus();
    find(".side textarea").scrollIntoView({ block: "center" });
  };
  const save = () => {
    const texts = Object.fromEntries([...document.querySelectorAll(".side textarea")].map((area) => [area.name, area.value]));
    return tried((async () => {
      await send("/decide", { id: pairId(), action: "edit", ...texts });
      document.body.classList.remove("editing-text");
      tell("");
      await renew("#tally", ".rows", "#item");
      find("#item").focus();
    })());
  };

  const write = () => tried((async () => {
    const { num_pairs: count, folder } = await send("/export", {});
    tell(`Wrote ${count.toLocaleString("en")} pairs to ${folder}.`);
  })());
  const reply = (question, value) => tried((async () => {
    await send("/answer", { sample_id: question.dataset.sample, value });
    await renew("#item");
    tell("Answered. The build goes on with it when it runs.");
  })());

  const prepare = () => {
    for (const player of document.querySelectorAll("#item :is(video, audio, img)")) {
      player.onerror = async () => {
        const answer = await fetch(player.src.split("#")[0], { headers: { range: "bytes=0-0" } }).catch(() => null);
        const problem = document.createElement("p");
        problem.className = "problem";
        problem.textContent = answer && !answer.ok ? await answer.text() : "This browser cannot play the file.";
        (player.closest(".screen") || player).replaceWith(problem);
      };
    }
    find(".rows [aria-current]")?.scrollIntoView({ block: "nearest" });
  };

  const follow = (selector) => find(selector)?.click();
  const step = (name) => follow(pairId() || find(".steps") ? `.step-${name}` : ".rows a");
  const keys = {
    j: () => step("next"), ArrowRight: () => step("next"), ArrowDown: () => step("next"),
    k: () => step("previous"), ArrowLeft: () => step("previous"), ArrowUp: () => step("previous"),
    a: () => follow("[data-act=accept]"), r: () => follow("[data-act=reject]"), u: () => follow("[data-act=undo]"),
    e: () => follow("[data-edit]"), " ": playAll, "/": () => find("[name=text]")?.focus(),
    "?": () => find("#help").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    const target = event.target;
    if (target.closest(".side textarea")) {
      if (event.key === "Escape") edit(false);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || find("#help").open) return;
    if (target.closest("input, select, textarea")) return;
    const isArrow = event.key.startsWith("Arrow");
    if ((isArrow || event.key === " ") && target.closest("video, audio, button, summary")) return;
    const work = keys[event.key];
    if (!work) return;
    event.preventDefault();
    work();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const data = button.dataset;
    if (data.act) act(data.act);
    else if ("edit" in data) edit(true);
    else if ("save" in data) save();
    else if ("cancel" in data) edit(false);
    else if ("together" in data) playAll();
    else if ("write" in data) write();
    else if ("help" in data) find("#help").showModal();
    else if ("answer" in data) reply(button.closest(".question"), JSON.parse(data.answer));
  });
  document.addEventListener("submit", (event) => {
    if (event.target.matches(".filters")) {
      const empty = [...event.target.elements].filter((field) => field.name && (!field.value || field.value === "0"));
      empty.forEach((field) => { field.disabled = true; }); // a short address
      setTimeout(() => empty.forEach((field) => { field.disabled = false; }));
    }
    if (!event.target.matches(".free")) return;
    event.preventDefault();
    reply(event.target.closest(".question"), event.target.elements.value.value);
  });
  document.addEventListener("change", (event) => {
    if (event.target.matches(".filters select")) event.target.form.requestSubmit();
  });

  const shown = JSON.parse(document.body.dataset.counts);
  setInterval(async () => {
    if (document.hidden || document.body.classList.contains("editing-text")) return;
    try {
      const counts = await (await fetch("/status")).json();
      const more = Object.keys(counts).map((name) => [counts[name] - shown[name], name]).filter(([count]) => count > 0);
      if (!more.length) return;
      tell(`New: ${more.map(([count, name]) => `${count.toLocaleString("en")} ${name}`).join(", ")}. `);
      const link = document.createElement("a");
      link.href = location.href;
      link.textContent = "Show";
      news.append(link);
    } catch {
      tell("The server has ended; run mmalign view again.", true);
    }
  }, 4000);
  prepare();
})();
