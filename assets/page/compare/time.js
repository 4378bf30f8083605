// The player, which moves all three texts along one time.
import { finder, say } from '../lib/dom.js';
import { seconds } from '../lib/format.js';
import { startFilm } from './film.js';

export const startTime = ({ element }, columns) => {
  const part = (name) => finder(element)(`.compare-${name}`), [scrub, play, pace, clock] = ['scrub', 'play', 'pace', 'clock'].map(part);
  let at = Infinity;   // seconds; tokens up to this time are shown
  let over = false, frame = null;

  const enableFilm = startFilm(part('film'), element, () => columns.map((column) => ({ title: column.heading.textContent, tokens: column.visibleTokens })));
  const end = () => Math.max(...columns.map((column) => column.end));

  const moveTo = (time) => {
    const last = end(), shown = Math.min(time, last), text = last > 0 ? `${seconds(shown)} of ${seconds(last)}` : '–';
    at = time >= last ? Infinity : time;
    for (const column of columns) column.showUntil(at, over);
    scrub.disabled = play.disabled = !(over && last > 0);
    enableFilm(over && last > 0);
    scrub.value = last > 0 ? Math.round((1000 * shown) / last) : 1000;
    scrub.setAttribute('aria-valuetext', text);
    say(clock, text);
  };

  const pause = () => {
    cancelAnimationFrame(frame);
    frame = null;
    say(play, 'Play');
  };
  const run = () => {
    let lastStamp = null;
    const tick = (stamp) => {
      moveTo(at + ((stamp - (lastStamp ?? stamp)) / 1000) * Number(pace.value));
      if (at === Infinity || !element.isConnected) return pause();
      lastStamp = stamp;
      frame = requestAnimationFrame(tick);
    };
    if (at === Infinity) moveTo(0);
    say(play, 'Pause');
    frame = requestAnimationFrame(tick);
  };
  play.addEventListener('click', () => (frame === null ? run() : pause()));
  scrub.addEventListener('input', () => {
    pause();
    moveTo((end() * scrub.value) / 1000);
  });

  return {
    draw(isOver) {
      over = isOver;
      moveTo(at);
    },
    reset() {
      pause();
      at = Infinity;
    },
    play: run,
    film: () => part('film').click(),
  };
};
