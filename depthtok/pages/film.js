// One slider over an episode: every view shows the same step. Nothing is loaded.
for (const film of document.querySelectorAll(".film")) {
  const steps = JSON.parse(film.dataset.steps), said = JSON.parse(film.dataset.said);
  const slider = film.querySelector("input"), play = film.querySelector("button");
  const tiles = film.querySelectorAll(".tile"), last = steps.length - 1;
  const show = () => {
    const index = Number(slider.value);
    for (const tile of tiles) {
      const columns = Number(tile.dataset.columns), rows = Number(tile.dataset.rows);
      const x = (index % columns) / columns, y = Math.floor(index / columns) / rows;
      tile.firstElementChild.style.transform = `translate(${-100 * x}%, ${-100 * y}%)`;
    }
    const text = said.filter(([first]) => first <= index).pop()[1];
    film.querySelector("output").textContent = `step ${steps[index]}`;
    film.querySelector(".said").textContent = text;
    slider.setAttribute("aria-valuetext", `step ${steps[index]}: ${text}`);
  };
  let timer = 0;
  const stop = () => {
    clearInterval(timer);
    timer = 0;
    play.textContent = "Play";
  };
  const next = () => {
    slider.value = String((Number(slider.value) + 1) % steps.length);
    show();
    if (Number(slider.value) === last) stop();
  };
  play.addEventListener("click", () => {
    if (timer) return stop();
    timer = setInterval(next, 1000 / Number(film.dataset.rate));
    play.textContent = "Pause";
  });
  slider.addEventListener("input", () => { stop(); show(); });
  slider.disabled = play.disabled = false;
  show();
}
