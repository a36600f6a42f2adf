"use strict";
document.documentElement.classList.add("js");
for (const slider of document.querySelectorAll("input[data-layer]")) {
  const layer = document.getElementById(slider.dataset.layer);
  const text = slider.parentElement.querySelector("output");
  const show = () => {
    layer.style.opacity = slider.value / 100;
    text.textContent = slider.value + " %";
  };
  slider.addEventListener("input", show);
  show();
}
