() => setTimeout(() => {
  // Gradio's own `autoscroll` lets go when many lines come at once
  for (const log of document.querySelectorAll(".log textarea")) {
    const end = log.scrollHeight - log.clientHeight;
    const left = Number(log.dataset.left ?? 0);
    if (log.offsetParent === null) {
      delete log.dataset.left;
    } else if (log.scrollTop >= left - 2 || end < left) {  // else somebody has scrolled up to read
      log.scrollTop = end;
      log.dataset.left = end;
    }
  }
}, 100)
