"use strict";
// Keeps times and content up to date, and adds keys, copies and the live stream. Every page can be
// read without it.
(() => {
  const base = document.body.dataset.base;
  const main = document.getElementById("content");
  const all = (selector) => [...document.querySelectorAll(selector)];

  const span = (seconds) => {
    const s = Math.max(0, Math.floor(seconds));
    if (s < 60) return `${s} s`;
    if (s < 3600) return `${Math.floor(s / 60)} min`;
    if (s < 172800) return `${Math.floor(s / 3600)} h`;
    return `${Math.floor(s / 86400)} d`;
  };

  // The clock of the browser may be wrong. Ages count from the clock of the gateway.
  let ahead = 0;
  const writeTimes = () => {
    const now = Date.now() + ahead;
    for (const time of all("time")) {
      const at = new Date(time.dateTime);
      time.title = at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
      const form = time.dataset.form;
      if (form === "ago") time.textContent = `${span((now - at) / 1000)} ago`;
      else if (form === "age") time.textContent = span((now - at) / 1000);
      else if (form === "in") time.textContent = at <= now ? "now" : `in ${span((at - now) / 1000)}`;
      else {
        const today = at.toDateString() === new Date(now).toDateString();
        time.textContent = today ? at.toLocaleTimeString() : at.toLocaleString();
      }
    }
  };

  const noteClock = (response) => {
    const date = Date.parse(response.headers.get("date"));
    if (date) ahead = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  };

  // A copy button for each text that is worth one.
  const addCopies = () => {
    for (const pre of all("[data-copy]")) {
      if (pre.querySelector(".copy") || !navigator.clipboard) continue;
      const text = pre.textContent;
      const button = document.createElement("button");
      button.className = "copy";
      button.textContent = "Copy";
      button.onclick = async () => {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
        button.blur();
      };
      pre.prepend(button);
    }
  };

  // Loads the content again, unless someone is using it. Content that is old says so.
  const OLD = 30_000;
  let loaded = Date.now();
  const old = document.createElement("p");
  old.className = "old";
  old.setAttribute("role", "status");
  const showAge = () => {
    const isOld = Date.now() - loaded > OLD;
    const text = isOld ? `Not up to date: the state of ${new Date(loaded).toLocaleTimeString()}` : "";
    if (old.textContent !== text) old.textContent = text;
  };
  const isInUse = () => {
    const active = document.activeElement;
    const selected = window.getSelection();
    return (active && main.contains(active) && active !== main) ||
      main.querySelector("details[open]") || (selected && !selected.isCollapsed);
  };
  const refresh = async () => {
    if (document.hidden || isInUse()) return;
    try {
      const response = await fetch(location.href, { headers: { accept: "text/html" } });
      if (!response.ok || response.redirected) return;
      noteClock(response);
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const content = page.getElementById("content");
      if (!content || isInUse()) return;
      loaded = Date.now();
      main.replaceChildren(...content.childNodes);
      document.title = page.title;
      document.querySelector("nav").replaceWith(page.querySelector("nav"));
      if (!content.dataset.refresh) endRefresh();
      writeTimes();
      addCopies();
      showAge();
    } catch {
      // The gateway is being restarted. The next round tries again.
    }
  };
  const seconds = Number(main.dataset.refresh);
  let timers = [];
  const endRefresh = () => {
    timers.forEach(clearInterval);
    timers = [];
  };
  if (seconds) {
    document.body.append(old);
    timers = [setInterval(refresh, seconds * 1000), setInterval(showAge, 1000)];
    addEventListener("visibilitychange", () => timers.length && refresh());
  }

  // A page ends its search early. The script loads the next ones until one has events.
  const search = async (shown) => {
    let older = document.querySelector("a[rel=next]")?.href;
    while (older) {
      const response = await fetch(older).catch(() => null);
      if (!response?.ok || response.redirected) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const next = page.querySelector("a[rel=next]");
      if (!page.querySelector("[data-search]") || !next) return location.replace(older);
      older = new URL(next.getAttribute("href"), location.href).href;
      shown.textContent = "Searching older events…";
    }
  };
  const searched = document.querySelector("[data-search]");
  if (searched) search(searched);

  // The list of events never moves under the reader. New events are counted in a bar, and the rows
  // that are shown change in their places.
  const rows = () => all("table.rows tbody tr");
  const href = (row) => row.querySelector("a")?.getAttribute("href");
  // A row without its times, which change by themselves.
  const bare = (row) => {
    const copy = row.cloneNode(true);
    for (const time of copy.querySelectorAll("time")) time.remove();
    return copy.innerHTML;
  };
  const live = document.querySelector("[data-live]");
  const bar = document.querySelector(".new");
  if (live && bar && window.EventSource) {
    let source = null;
    let checking = 0;
    const word = document.createElement("span");
    const button = document.createElement("button");
    live.append(word, " · ", button);
    live.hidden = false;
    // The bar has its place from the beginning, so that the list does not move when it appears.
    bar.textContent = "0 new";
    bar.classList.add("none");
    bar.hidden = false;
    const show = (text, action) => {
      word.textContent = text;
      button.textContent = action;
    };
    let pause = 2000;
    const check = async () => {
      const began = Date.now();
      try {
        await load();
      } finally {
        // A search of seconds is not repeated without a break.
        pause = Math.max(2000, 10 * (Date.now() - began));
        checking = 0;
      }
    };
    const load = async () => {
      if (!source) return;
      const response = await fetch(bar.href).catch(() => null);
      if (!response?.ok || response.redirected) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const found = [...page.querySelectorAll("table.rows tbody tr")];
      const shown = new Map(rows().map((row) => [href(row), row]));
      const count = found.findIndex((row) => shown.has(href(row)));
      const fresh = count < 0 ? found.length : count;
      bar.textContent = `${fresh}${count < 0 && fresh >= 50 ? "+" : ""} new`;
      bar.classList.toggle("none", fresh === 0);
      for (const row of found) {
        const old = shown.get(href(row));
        const isUsed = !old || old.contains(document.activeElement);
        if (!isUsed && bare(old) !== bare(row)) old.replaceChildren(...row.children);
      }
      writeTimes();
    };
    // At most one check in two seconds, however many events there are.
    const soon = () => {
      if (!checking && !document.hidden) checking = setTimeout(check, pause);
    };
    const open = () => {
      const own = new EventSource(`${base}/api/v1/events/stream`);
      source = own;
      show("connecting", "pause");
      source.onopen = () => {
        show("live", "pause");
        soon();
      };
      source.onerror = () => {
        show("not connected", "pause");
        if (own.readyState === EventSource.CLOSED) setTimeout(() => source === own && open(), 5000);
      };
      source.onmessage = (message) => {
        if (["accepted", "settled"].includes(JSON.parse(message.data).event)) soon();
      };
      source.addEventListener("missed", soon);
    };
    const close = () => {
      source?.close();
      source = null;
    };
    button.onclick = () => {
      if (source) {
        close();
        show("paused", "resume");
      } else open();
    };
    open();
    // Other gateways on the store have streams of their own.
    setInterval(soon, 15000);
    addEventListener("visibilitychange", soon);
    addEventListener("pagehide", close);
    addEventListener("pageshow", (shown) => shown.persisted && open());
  }

  // Keys: / filter, j k move, Enter open, r replay.
  const select = (row) => {
    for (const other of rows()) other.removeAttribute("aria-selected");
    row.setAttribute("aria-selected", "true");
    row.scrollIntoView({ block: "nearest" });
  };
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input, select, textarea");
    if (event.key === "Escape" && typing) typing.blur();
    if (typing) return;
    const field = document.querySelector(".filter input");
    const list = rows();
    const place = list.findIndex((row) => row.getAttribute("aria-selected"));
    const link = place >= 0 && list[place].querySelector("a");
    const primary = document.querySelector(".head .primary");
    if (event.key === "/" && field) {
      event.preventDefault();
      field.focus();
      field.select();
    } else if (event.key === "j" && list.length) select(list[Math.min(place + 1, list.length - 1)]);
    else if (event.key === "k" && list.length) select(list[Math.max(place - 1, 0)]);
    else if (event.key === "Enter" && link && event.target === document.body) link.click();
    else if (event.key === "r" && link && location.pathname.endsWith("/events")) {
      location.href = `${base}/replay?q=${encodeURIComponent(list[place].dataset.only)}`;
    } else if (event.key === "r" && primary) primary.click();
  });
  for (const keys of all(".keys")) keys.hidden = false;

  writeTimes();
  addCopies();
  setInterval(writeTimes, 1000);
})();
